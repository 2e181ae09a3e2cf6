"""The command lines: the classes' typed signatures are the config's schema."""

import argparse
import inspect
import logging
import re
import shutil
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar, TQDMProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins.io import CheckpointIO
from lightning.pytorch.utilities import rank_zero_info

from refinecam.callbacks import FinalMetrics, TrainingPictures
from refinecam.commands import explain_pictures, list_layers, make_report, show_results
from refinecam.core.errors import InputError
from refinecam.core.files import WholeCheckpoints
from refinecam.core.signals import ended_by_signals
from refinecam.data import DataModule
from refinecam.evaluation import Evaluator
from refinecam.models import Classifier, check_colors, read_weights
from refinecam.usage import EXAMPLE, OF_THE_MODEL, class_of, one_line, show_help


class _CLI(LightningCLI):
    """Any LightningDataModule by ``--data CLASS``, errors in one line, float32 where bfloat16 is only emulated."""

    other: tuple[type, str]
    """Model and name of the other command line, for options that are given to the wrong one."""

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """End wrong input with one line."""
        try:
            super().parse_arguments(parser, args)
        except argparse.ArgumentError as error:
            raise InputError(one_line(str(error), list(parser._option_string_actions), self.other)) from error

    def instantiate_classes(self) -> None:
        """Hand on what a class says of its arguments, which jsonargparse hides in what it says of types.

        Raises:
            InputError: the class's own.
        """
        try:
            super().instantiate_classes()
        except ValueError as error:
            own: BaseException | None = error
            while own is not None and not isinstance(own, InputError):
                own = own.__cause__ or own.__context__
            raise own or error from error

    def data_follow(self, **values: Any) -> None:
        """Give the data what the model decides.

        Raises:
            InputError: if they were given something else.
        """
        chosen = self.config.data
        parameters = inspect.signature(class_of(chosen.class_path)).parameters
        for name in parameters.keys() & values.keys():
            default, value = parameters[name].default, values[name]
            given = chosen.init_args.get(name, default)
            if given not in (default, value):
                raise InputError(f"data.{name}: the data follow the model; instead of {given} here give --model.{name}")
            chosen.init_args[name] = value

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """Compute in float32 where bfloat16 is only emulated."""
        trainer = self._get(self.config_init, "trainer")
        if isinstance(trainer.max_time, str) and not re.fullmatch(r"\d+:\d\d:\d\d:\d\d", trainer.max_time):
            raise InputError(
                f"trainer.max_time: expected days:hours:minutes:seconds, for half an hour 00:00:30:00, got "
                f"{trainer.max_time!r}"
            )
        on_cpu = trainer.accelerator == "cpu"
        on_cpu |= trainer.accelerator == "auto" and not torch.accelerator.is_available()
        precision = native_precision(str(trainer.precision), on_cpu)
        if precision != str(trainer.precision):
            rank_zero_info(f"This CPU only emulates bfloat16: {trainer.precision} becomes {precision}.")
            kwargs["precision"] = precision
        return super().instantiate_trainer(**kwargs)


class TrainCLI(_CLI):
    """Train a classifier on the shapes or other data, then test its best checkpoint."""

    other = (Evaluator, "evaluate.py, with configs/evaluate/")

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the callbacks that every training has."""
        parser.add_argument("--ckpt_path", type=str | None, help="checkpoint of a training to go on with")
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        # Lightning's own save_last writes only when a best checkpoint is written, so a resumed training would go back.
        parser.add_lightning_class_args(ModelCheckpoint, "last_checkpoint")
        parser.link_arguments("checkpoint.dirpath", "last_checkpoint.dirpath")
        parser.add_lightning_class_args(TrainingPictures, "pictures")
        parser.add_lightning_class_args(FinalMetrics, "final_metrics")
        parser.link_arguments("data", "model.num_classes", compute_fn=_class_count, apply_on="instantiate")
        best = {"monitor": "val/accuracy", "mode": "max", "filename": "best"}
        last = {"filename": "last", "save_on_train_epoch_end": True}
        parser.set_defaults({f"checkpoint.{name}": value for name, value in best.items()})
        parser.set_defaults({f"last_checkpoint.{name}": value for name, value in last.items()})

    def before_instantiate_classes(self) -> None:
        """The data follow the model; a training that goes on has its weights already."""
        if self.config.model.image_size is None:  # then the data's own size, if they have one
            size = inspect.signature(class_of(self.config.data.class_path)).parameters.get("image_size")
            self.config.model.image_size = size.default if size else None
        self.data_follow(**{name: self.config.model[name] for name in OF_THE_MODEL})
        if self.config.ckpt_path:
            self.config.model.checkpoint, self.config.model.pretrained = None, False

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """Write checkpoints that are whole or not there."""
        given = self._get(self.config_init, "trainer").plugins or []
        given = given if isinstance(given, list) else [given]
        if not any(isinstance(plugin, CheckpointIO) for plugin in given):
            kwargs["plugins"] = [*given, WholeCheckpoints()]
        return super().instantiate_trainer(**kwargs)


class EvaluateCLI(_CLI):
    """Score a classifier and attribution methods on the test set."""

    other = (Classifier, "train.py, with configs/train/")

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the folder for the results."""
        parser.add_argument("--output", type=str, default="runs/evaluation", help="folder for tables, figure and logs")
        parser.add_argument("--overwrite", type=bool, default=False, help="replace another evaluation in this folder")
        parser.link_arguments("output", "model.output")
        parser.link_arguments("overwrite", "model.overwrite")

    def before_instantiate_classes(self) -> None:
        """The data follow the model, which its checkpoint knows."""
        model = self.config.model
        known = {name: model[name] for name in OF_THE_MODEL}
        if model.checkpoint and not model.network:
            weights = read_weights(model.checkpoint, **known)
            known = {"backbone": weights.backbone, "image_size": weights.image_size}
        given = ("backbone", "image_size") if known["backbone"] else ("image_size",)
        self.data_follow(**{name: known[name] for name in given if name == "backbone" or known[name] is not None})

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """Log to TensorBoard in the output folder, and show the time that is left, unless the config says otherwise."""
        trainer = self._get(self.config_init, "trainer")
        given = list(trainer.callbacks or [])
        if trainer.enable_progress_bar is not False and not any(isinstance(bar, ProgressBar) for bar in given):
            # Rich's bar, which is Lightning's own choice, does not know it where a batch takes half a minute.
            kwargs["callbacks"] = [*given, TQDMProgressBar()]
        if trainer.logger in (None, True):
            kwargs["logger"] = TensorBoardLogger(
                self._get(self.config_init, "output"), name="", default_hp_metric=False
            )
        return super().instantiate_trainer(**kwargs)


def build(cli: type[_CLI], model: type, args: Sequence[str] | None, **trainer_defaults: Any) -> Any:
    """Read the command line, or ``args``, and make trainer, model and data of it."""
    given = sys.argv[1:] if args is None else list(args)
    if {"--help", "-h"} & set(given):
        show_help(cli.__doc__ or "", model, given)
        sys.exit(0)
    return cli(
        model,
        L.LightningDataModule,
        subclass_mode_data=True,
        run=False,
        # The shapes, if no other data are named; as a parser's default their own defaults would stay with others.
        args=["--data", EXAMPLE, *("--help" if value == "--help-all" else value for value in given)],
        seed_everything_default=0,
        auto_configure_optimizers=False,  # the module has its own
        save_config_kwargs={"overwrite": True},
        # Lightning's summary counts no FLOPs and fills a screen.
        trainer_defaults={"enable_model_summary": False, **trainer_defaults},
        parser_kwargs={"description": cli.__doc__, "exit_on_error": False},
    )


def train(args: Sequence[str] | None = None) -> None:
    """Train a classifier and test its best weights."""
    cli = build(TrainCLI, Classifier, args, reload_dataloaders_every_n_epochs=1)
    if cli.config.ckpt_path:
        check_resumed(cli.config.ckpt_path, cli.config.model.backbone, cli.datamodule)
    try:
        cli.trainer.fit(cli.model, cli.datamodule, ckpt_path=cli.config.ckpt_path, weights_only=True)
    except InputError:
        if not cli.trainer.global_step:
            forget_logs(cli.trainer)
        raise
    if cli.config.ckpt_path and "train/loss" not in cli.trainer.callback_metrics:
        raise InputError(
            f"ckpt_path: {cli.config.ckpt_path} is at the end of its training, so nothing was trained; raise "
            "--trainer.max_epochs, max_steps or max_time"
        )
    best = cli._get(cli.config_init, "checkpoint").best_model_path
    if not best:
        last = cli._get(cli.config_init, "last_checkpoint").best_model_path
        known = f"; the last are {last}" if last else ""
        every = cli.trainer.check_val_every_n_epoch or 1
        smaller = f"--trainer.check_val_every_n_epoch (now {every})" if every > 1 else "--data.train_size"
        raise InputError(
            f"trainer: no epoch was trained and validated, so there are no best weights to test{known}. Train longer "
            f"or use a smaller {smaller}"
        )
    cli.trainer.test(cli.model, cli.datamodule, ckpt_path=best, weights_only=True)
    if cli.trainer.is_global_zero:
        print(f"Best weights: {best}")


def check_resumed(path: str, backbone: str, data: DataModule) -> None:
    """Refuse to go on from what is no training, or one with other classes or colors.

    Raises:
        InputError: with the remedy.
    """
    if not Path(path).is_file():
        raise InputError(
            f"ckpt_path: there is no file {path}; a training goes on from the last.ckpt of its --checkpoint.dirpath"
        )
    result = read_weights(path, backbone)
    if result.path.suffix == ".safetensors":
        raise InputError(f"ckpt_path: {path} has weights alone; start from it with --model.checkpoint {path}")
    if result.num_classes != (count := _class_count(data)):
        raise InputError(f"ckpt_path: {path} has {result.num_classes} classes, the data have {count}")
    check_colors("ckpt_path", path, result.normalize, getattr(data, "normalized", True))


def evaluate(args: Sequence[str] | None = None) -> None:
    """Score a classifier and attribution methods on a test set."""
    cli = build(EvaluateCLI, Evaluator, args, inference_mode=False)
    try:
        cli.trainer.test(cli.model, cli.datamodule, verbose=False)
    except InputError:
        forget_logs(cli.trainer)
        raise
    finally:
        cli.model.results.close()
    if cli.trainer.is_global_zero:
        if not cli.model.written:
            unread = [entry["reason"] for entry in cli.model.unread]
            raise InputError(unread[0] if unread else "trainer: no batch was evaluated; is limit_test_batches 0?")
        show_results(cli.model.results.folder, cli.model.written)


def forget_logs(trainer: L.Trainer) -> None:
    """Remove the log folder of a run that was refused before it did anything."""
    for logger in trainer.loggers if trainer.is_global_zero else []:
        if isinstance(logger, TensorBoardLogger):
            logger.finalize("failed")
            shutil.rmtree(logger.log_dir, ignore_errors=True)


def native_precision(precision: str, on_cpu: bool) -> str:
    """``32-true`` instead of bfloat16 on a CPU that only emulates it, which is several times slower."""
    emulated = not (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return "32-true" if on_cpu and emulated and precision.startswith("bf16") else precision


def _class_count(data: Any) -> int:
    if not getattr(data, "classes", None):
        raise InputError(f"data: {type(data).__name__} does not name its classes; give it an attribute classes")
    return len(data.classes)


def run(entry: Callable[[], int | None]) -> None:
    """Run an entry point; input that cannot be used ends it with one line instead of a traceback."""
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # Lightning's own use of torch
    warnings.filterwarnings("ignore", message="LightningCLI's args parameter")  # it gets one option more
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(lambda r: "Tip:" not in r.getMessage())
    try:
        with ended_by_signals():
            sys.exit(entry())
    except InputError as error:
        *_, line = str(error).rpartition("InputError: ")  # behind the traceback of a worker that read the data
        sys.exit(f"error: {line.strip()}")
    except SystemExit as end:
        if isinstance(end.__context__, KeyboardInterrupt):  # Lightning ends with 1
            sys.exit(128 + signal.SIGINT)
        raise
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except OSError as error:
        where = f"{error.filename}: " if error.filename is not None else ""
        sys.exit(f"error: {where}{error.strerror or error}; make room, set permissions, or name another path")


COMMANDS: dict[str, Callable[[Sequence[str]], int | None]] = {
    "explain": explain_pictures,
    "layers": list_layers,
    "train": train,
    "evaluate": evaluate,
    "report": make_report,
}


def main() -> None:
    """Entry point of the console script: ``refinecam explain|layers|train|evaluate|report``."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in COMMANDS:
        uses = "\n".join(f"  refinecam {known:9}{entry.__doc__}" for known, entry in COMMANDS.items())
        if name in ("-h", "--help"):
            print(f"usage: refinecam COMMAND ..., refinecam COMMAND --help\n{uses}")
            return
        unknown = "" if not name else f"error: there is no command {name}\n"
        sys.exit(f"{unknown}usage: refinecam COMMAND ..., refinecam COMMAND --help\n{uses}")
    sys.path.insert(0, "")  # as python itself does for a script, for data modules of the user's
    run(lambda: COMMANDS[name](sys.argv[2:]))
