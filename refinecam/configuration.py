"""From a command line or a YAML file to trainer, model and data: the classes' typed signatures are the schema."""

import argparse
import inspect
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar, TQDMProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.plugins.io import CheckpointIO
from lightning.pytorch.utilities import rank_zero_info

from refinecam.callbacks import FinalMetrics, TrainingPictures
from refinecam.core.errors import InputError
from refinecam.core.files import WholeCheckpoints
from refinecam.evaluation import Evaluator
from refinecam.models import Classifier, read_weights
from refinecam.usage import EXAMPLE, OF_THE_MODEL, class_of, one_line, show_help


class SavedConfig(SaveConfigCallback):
    """The config in the folder of TensorBoard's or CSV logs; without one where the results or the checkpoints go."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Write nothing yet: other loggers' folder may be the working directory."""
        own = any(isinstance(logger, TensorBoardLogger | CSVLogger) for logger in trainer.loggers)
        self.folder = trainer.log_dir if own else None  # on every process: it is broadcast

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write it, now that the folder of the checkpoints is known."""
        self._write(trainer)

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write it, if no training has."""
        self._write(trainer)

    def _write(self, trainer: L.Trainer) -> None:
        checkpoint = trainer.checkpoint_callback
        weights = checkpoint.dirpath if isinstance(checkpoint, ModelCheckpoint) else None
        folder = self.folder or self.config.get("output") or weights
        if trainer.is_global_zero and folder and not self.already_saved:
            Path(folder).mkdir(parents=True, exist_ok=True)
            text = self.parser.dump(self.config, skip_none=False)
            (Path(folder) / self.config_filename).write_text(text, encoding="utf-8")
        self.already_saved = True


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
        keys = self.parser.callback_keys
        if trainer.barebones:
            keys.clear()
        elif trainer.enable_checkpointing is False:
            keys[:] = [n for n in keys if not isinstance(self._get(self.config_init, n), ModelCheckpoint)]
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
        parser.link_arguments("data", "model.num_classes", compute_fn=class_count, apply_on="instantiate")
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
        self.data_follow(**{name: value for name, value in known.items() if value is not None})

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """Log to TensorBoard in the output folder, and show the time that is left, unless the config says otherwise."""
        trainer = self._get(self.config_init, "trainer")
        if trainer.barebones:
            return super().instantiate_trainer(**kwargs)
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
        save_config_callback=SavedConfig,
        save_config_kwargs={"overwrite": True},
        # Lightning's summary counts no FLOPs and fills a screen.
        trainer_defaults={"enable_model_summary": False, **trainer_defaults},
        parser_kwargs={"description": cli.__doc__, "exit_on_error": False},
    )


def native_precision(precision: str, on_cpu: bool) -> str:
    """``32-true`` instead of bfloat16 on a CPU that only emulates it, which is several times slower."""
    emulated = not (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return "32-true" if on_cpu and emulated and precision.startswith("bf16") else precision


def class_count(data: Any) -> int:
    """Number of classes of a data module.

    Raises:
        InputError: if it does not name them.
    """
    if not getattr(data, "classes", None):
        raise InputError(f"data: {type(data).__name__} does not name its classes; give it an attribute classes")
    return len(data.classes)
