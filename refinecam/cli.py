"""The command lines: train, evaluate, and the console script with all commands."""

import logging
import re
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from datetime import timedelta
from io import TextIOWrapper
from pathlib import Path

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy

from refinecam.commands import explain_pictures, list_layers, make_report, show_results
from refinecam.configuration import EvaluateCLI, TrainCLI, build, class_count
from refinecam.core.errors import InputError
from refinecam.core.memory import ran_out
from refinecam.core.signals import ended_by_signals
from refinecam.data import DataModule
from refinecam.evaluation import Evaluator
from refinecam.evaluation.store import read_manifest
from refinecam.models import Classifier, check_colors, read_weights
from refinecam.study import run_study

LOST = re.compile("by (remote )?peer|Read error|Write error|Broken pipe")
"""What gloo and NCCL say where another process has ended."""
WRITTEN = (".parquet", ".csv", ".md", ".png")
"""Files of an evaluation that its summary names."""
WAIT = timedelta(days=7)
"""For which processes that are done wait for the others."""


def train(args: Sequence[str] | None = None) -> None:
    """Train a classifier and test its best weights."""
    cli = build(TrainCLI, Classifier, args, reload_dataloaders_every_n_epochs=1)
    if cli.config.ckpt_path:
        check_resumed(cli.config.ckpt_path, cli.config.model.backbone, cli.datamodule)
    try:
        cli.trainer.fit(cli.model, cli.datamodule, ckpt_path=cli.config.ckpt_path, weights_only=True)
    except BaseException:
        if not cli.trainer.global_step:
            forget_logs(cli.trainer)
        raise
    if cli.config.ckpt_path and "train/loss" not in cli.trainer.callback_metrics:
        raise InputError(
            f"ckpt_path: {cli.config.ckpt_path} is at the end of its training, so nothing was trained; raise "
            "--trainer.max_epochs, max_steps or max_time"
        )
    if cli.trainer.fast_dev_run or not cli.trainer.checkpoint_callbacks:
        cli.trainer.test(cli.model, cli.datamodule)
        print(
            "No weights were written: " + ("a quick check run" if cli.trainer.fast_dev_run else "checkpoints are off")
        )
        return
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
    if result.num_classes != (count := class_count(data)):
        raise InputError(f"ckpt_path: {path} has {result.num_classes} classes, the data have {count}")
    check_colors("ckpt_path", path, result.normalize, getattr(data, "normalized", True))


def evaluate(args: Sequence[str] | None = None) -> None:
    """Score a classifier and attribution methods on a test set."""
    cli = build(EvaluateCLI, Evaluator, args, inference_mode=False)
    started = time.time()
    if isinstance(cli.trainer.strategy, DDPStrategy):
        cli.trainer.strategy._timeout = WAIT  # Lightning sets it up later, and has no option for it but a class
    try:
        cli.trainer.test(cli.model, cli.datamodule, verbose=False)
    except BaseException:
        if not cli.trainer.test_loop.batch_progress.total.completed:
            forget_logs(cli.trainer)
        raise
    finally:
        cli.model.results.close()
    if cli.trainer.is_global_zero:
        folder = cli.model.results.folder
        # A strategy that spawns its processes leaves this one's module as it was.
        written = cli.model.written or written_since(folder, started)
        if not written:
            unread = [entry["reason"] for entry in cli.model.unread]
            raise InputError(unread[0] if unread else "trainer: no batch was evaluated; is limit_test_batches 0?")
        show_results(folder, written)


def written_since(folder: Path, started: float) -> list[Path]:
    """Files of an evaluation that is complete, if it was written after a time."""
    if read_manifest(folder) is None or not (folder / "accuracy.md").is_file():
        return []
    files = [path for path in sorted(folder.iterdir()) if path.is_file() and path.suffix in WRITTEN]
    return [path for path in files if path.stat().st_mtime >= started - 2]  # file systems round


def forget_logs(trainer: L.Trainer) -> None:
    """Remove the log folder of a run that was refused before it did anything."""
    for logger in trainer.loggers if trainer.is_global_zero else []:
        if isinstance(logger, TensorBoardLogger):
            logger.finalize("failed")
            shutil.rmtree(logger.log_dir, ignore_errors=True)


def run(entry: Callable[[], int | None]) -> None:
    """Run an entry point; input that cannot be used ends it with one line instead of a traceback."""
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # Lightning's own use of torch
    warnings.filterwarnings("ignore", message="LightningCLI's args parameter")  # it gets one option more
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(lambda r: "Tip:" not in r.getMessage())
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a locale without ± loses the sign, not the run
    try:
        with ended_by_signals():
            sys.exit(entry())
    except InputError as error:
        sys.exit(f"error: {error}")
    except SystemExit as end:
        if isinstance(end.__context__, KeyboardInterrupt):  # Lightning ends with 1
            sys.exit(128 + signal.SIGINT)
        raise
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except (RuntimeError, MemoryError) as error:
        if ran_out(error):
            first = (str(error).splitlines() or ["no more"])[0]
            sys.exit(f"error: there is not enough memory ({first}); use smaller batches or images")
        if "DataLoader worker" in str(error):
            sys.exit("error: a process that reads the data was killed, perhaps for memory; use fewer data.num_workers")
        if LOST.search(str(error)):  # it has said why
            sys.exit(
                "error: another process of this run has ended, so this one does, too; what is written so far stays"
            )
        raise
    except OSError as error:
        where = f"{error.filename}: " if error.filename is not None else ""
        sys.exit(f"error: {where}{error.strerror or error}; make room, set permissions, or name another path")


COMMANDS: dict[str, Callable[[Sequence[str]], int | None]] = {
    "explain": explain_pictures,
    "layers": list_layers,
    "train": train,
    "evaluate": evaluate,
    "study": run_study,
    "report": make_report,
}


def main() -> None:
    """Entry point of the console script: ``refinecam explain|layers|train|evaluate|study|report``."""
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
