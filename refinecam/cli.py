"""The command lines: the classes' typed signatures are the config's schema."""

import argparse
import logging
import re
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from jsonargparse import DefaultHelpFormatter
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar, TQDMProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import SIGTERMException

from refinecam.arguments import OF_THE_MODEL, check_data_follow_the_model, one_line, read_ahead
from refinecam.callbacks import EarlierWeights, FinalMetrics, TrainingPictures
from refinecam.core.errors import InputError
from refinecam.data import FunnyBirdsDataModule, ShapesDataModule
from refinecam.evaluation import Evaluator
from refinecam.models import Classifier, check_colors, read_weights

DATASETS: dict[str, type[L.LightningDataModule]] = {"shapes": ShapesDataModule, "funnybirds": FunnyBirdsDataModule}
"""Data modules by the name that a config's ``dataset`` gives them."""


def native_precision(precision: str, on_cpu: bool) -> str:
    """``32-true`` instead of bfloat16 on a CPU that only emulates it, which is several times slower."""
    emulated = not (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return "32-true" if on_cpu and emulated and precision.startswith("bf16") else precision


def _class_count(data: Any) -> int:
    return len(data.classes)


class _HelpFormatter(DefaultHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Leaves the example on a line of its own, to be copied."""


class _CLI(LightningCLI):
    examples = ""

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Show the own options before Lightning's; end wrong input with one line."""
        parser.usage = "%(prog)s [--config FILE] [--model.NAME VALUE] [--data.NAME VALUE] [--trainer.NAME VALUE] ..."
        # Help has the groups as they were added: three hundred lines of Lightning's Trainer first.
        last = [(parser.groups or {}).get(name) for name in ("checkpoint", "trainer", "last_checkpoint")]
        parser._action_groups = sorted(
            parser._action_groups, key=lambda group: last.index(group) + 1 if group in last else 0
        )
        try:
            super().parse_arguments(parser, args)
        except argparse.ArgumentError as error:
            raise InputError(one_line(str(error), list(parser._option_string_actions))) from error

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the choice of the data set, which decides what ``--data`` has."""
        super().add_default_arguments_to_parser(parser)
        names = Literal["shapes", "funnybirds"]
        parser.add_argument(
            "--dataset",
            type=names,
            default="shapes",
            help="what --data reads; the options of each: --dataset funnybirds --help",
        )

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
    """Train a classifier on the shapes or on FunnyBirds, then test its best checkpoint."""

    examples = (
        "For example:\n\n    python train.py --config configs/train/demo.yaml --data.train_size 1280\n\n"
        "README.md says what each of configs/train is; --print_config prints every value and does nothing else."
    )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the callbacks that every training has."""
        for name in OF_THE_MODEL:
            parser.link_arguments(f"model.{name}", f"data.{name}")
        parser.add_argument("--ckpt_path", type=str | None, help="checkpoint of a training to go on with")
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        # Lightning's own save_last writes only when a best checkpoint is written, so a resumed training would go back.
        parser.add_lightning_class_args(ModelCheckpoint, "last_checkpoint")
        parser.link_arguments("checkpoint.dirpath", "last_checkpoint.dirpath")
        parser.add_lightning_class_args(TrainingPictures, "pictures")
        parser.add_lightning_class_args(FinalMetrics, "final_metrics")
        parser.link_arguments("data", "model.num_classes", compute_fn=_class_count, apply_on="instantiate")
        parser.set_defaults(
            {
                "checkpoint.monitor": "val/accuracy",
                "checkpoint.mode": "max",
                "checkpoint.filename": "best",
                "checkpoint.enable_version_counter": False,
                "last_checkpoint.filename": "last",
                "last_checkpoint.save_on_train_epoch_end": True,
                "last_checkpoint.enable_version_counter": False,
            }
        )

    def before_instantiate_classes(self) -> None:
        """A training that goes on has its weights already."""
        if self.config.ckpt_path:
            self.config.model.checkpoint, self.config.model.pretrained = None, False


class EvaluateCLI(_CLI):
    """Score a classifier and attribution methods on the test set."""

    examples = (
        "For example:\n\n"
        "    python evaluate.py --config configs/evaluate/shapes.yaml --data.test_size 20 --output runs/mine\n\n"
        "README.md says what each of configs/evaluate is; --print_config prints every value and does nothing else."
    )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the folder for the results."""
        for name in OF_THE_MODEL:  # which it knows from its checkpoint
            parser.link_arguments(f"model.{name}", f"data.{name}", apply_on="instantiate")
        parser.add_argument("--output", type=str, default="runs/evaluation", help="folder for tables, figure and logs")
        parser.link_arguments("output", "model.output")

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


def _build(cli: type[_CLI], model: type, args: Sequence[str] | None, **trainer_defaults: Any) -> Any:
    """Read the command line, or ``args``, and make trainer, model and data of it."""
    found = read_ahead(sys.argv[1:] if args is None else args)
    check_data_follow_the_model(found)
    return cli(
        model,
        DATASETS[next((name for name in found["dataset"] if isinstance(name, str) and name in DATASETS), "shapes")],
        run=False,
        args=None if args is None else list(args),
        seed_everything_default=0,
        auto_configure_optimizers=False,  # the module has its own
        save_config_kwargs={"overwrite": True},
        trainer_defaults=trainer_defaults,
        parser_kwargs={
            "description": f"{cli.__doc__} {cli.examples}",
            "formatter_class": _HelpFormatter,
            "exit_on_error": False,
        },
    )


def train(args: Sequence[str] | None = None) -> None:
    """Entry point of train.py."""
    cli = _build(TrainCLI, Classifier, args, reload_dataloaders_every_n_epochs=1, callbacks=[EarlierWeights()])
    if cli.config.ckpt_path:
        if not Path(cli.config.ckpt_path).is_file():
            raise InputError(
                f"ckpt_path: there is no file {cli.config.ckpt_path}; a training that goes on needs the last.ckpt of "
                "its --checkpoint.dirpath"
            )
        found = read_weights(cli.config.ckpt_path, cli.config.model.backbone)
        if found.path.suffix == ".safetensors":
            raise InputError(
                f"ckpt_path: {found.path} has weights alone, no training to go on with; start from it with "
                f"--model.checkpoint {cli.config.ckpt_path}"
            )
        if found.num_classes != len(cli.datamodule.classes):
            raise InputError(
                f"ckpt_path: {cli.config.ckpt_path} has {found.num_classes} classes, the data have "
                f"{len(cli.datamodule.classes)}"
            )
        check_colors("ckpt_path", cli.config.ckpt_path, found.normalize, cli.datamodule.normalized)
    cli.trainer.fit(cli.model, cli.datamodule, ckpt_path=cli.config.ckpt_path, weights_only=True)
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


def evaluate(args: Sequence[str] | None = None) -> None:
    """Entry point of evaluate.py."""
    cli = _build(EvaluateCLI, Evaluator, args, inference_mode=False)
    cli.trainer.test(cli.model, cli.datamodule, verbose=False)
    if cli.trainer.is_global_zero and not cli.model.written:
        raise InputError("trainer: no batch was evaluated, so there are no results; is trainer.limit_test_batches 0?")
    if cli.trainer.is_global_zero:
        folder = cli.model.results.folder
        print((folder / ("summary.md" if cli.model.methods else "accuracy.md")).read_text())
        print(f"Written to {folder}: {', '.join(path.name for path in cli.model.written)}, TensorBoard logs")


def run(entry: Callable[[], None]) -> None:
    """Run an entry point; input that cannot be used ends it with one line instead of a traceback."""
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # Lightning's own use of torch
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(lambda r: "Tip:" not in r.getMessage())
    try:
        entry()
    except InputError as error:
        *_, line = str(error).rpartition("InputError: ")  # behind the traceback of a worker that read the data
        sys.exit(f"error: {line.strip()}")
    except SIGTERMException:  # Lightning's own exit, with status 0
        print("error: stopped by SIGTERM; what is written so far stays", file=sys.stderr)
        sys.exit(128 + signal.SIGTERM)
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        if error.filename is None:
            raise
        sys.exit(f"error: {error.filename}: {error.strerror}; name another path")
