"""Lightning's own switches: each run ends with success and writes nothing where it should not.

Reported as Lightning-AI/pytorch-lightning#7143 and #6615 (fast_dev_run and the best checkpoint), pytorch/pytorch#78249
(unpooling that is not deterministic) and xwying/torchshow#23 (pictures in bfloat16).
"""

import os
import subprocess
import sys

import pandas as pd
import pytest
import torch
from lightning.pytorch.loggers import Logger

from refinecam.cli import evaluate, train
from tests.command_lines import DATA, ROOT, evaluate_args

TINY = [
    *("--model.backbone", "resnet18", "--model.pretrained", "false", "--model.image_size", "64", *DATA),
    *("--data.train_size", "8", "--data.val_size", "6", "--data.test_size", "6", "--data.batch_size", "4"),
    *("--trainer.max_epochs", "1", "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"),
]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working directory with a file of the user's."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text("the user's")
    yield tmp_path
    assert (tmp_path / "config.yaml").read_text() == "the user's"


@pytest.mark.parametrize("switch", ["fast_dev_run", "barebones"])
def test_training_without_checkpoints(switch, here, capsys):
    train([*TINY, f"--trainer.{switch}", "true"])
    assert "No weights were written" in capsys.readouterr().out
    assert not list(here.rglob("*.ckpt"))


def test_training_with_checkpoints_switched_off(here, capsys):
    train([*TINY, "--trainer.enable_checkpointing", "false"])
    assert "No weights were written: checkpoints are off" in capsys.readouterr().out
    assert not list(here.rglob("*.ckpt"))


def test_training_without_a_logger_in_bfloat16(here, capsys):
    train([*TINY, "--trainer.logger", "false", "--trainer.precision", "bf16-true", "--checkpoint.dirpath", "weights"])
    assert "Best weights: " in capsys.readouterr().out
    assert {path.name for path in (here / "weights").iterdir()} == {"best.ckpt", "last.ckpt", "config.yaml"}
    assert {path.name for path in here.iterdir()} == {"config.yaml", "weights"}


@pytest.mark.parametrize(
    "options",
    [
        ("fast_dev_run", "true"),
        ("barebones", "true"),
        ("logger", "false"),
        ("precision", "bf16-true"),
        ("deterministic", "true"),
    ],
    ids=lambda pair: pair[0],
)
def test_evaluation(options, here, trained):
    name, value = options
    methods = "[GradCAM++, ShapleyCAM, GuidedGradCAM, DeepLift, 'IntegratedGradients(steps=4)', 'LIME(samples=4)']"
    more = ["--model.methods", methods, f"--trainer.{name}", value, "--data.test_size", "3", "--data.controls", "false"]
    if value == "bf16-true":
        more[1] = "[GradCAM++, RefineCAM(LayerCAM)]"  # DeepLift refuses it
    if name == "deterministic":  # every kind of method of configs/evaluate/methods.yaml
        more[1] = methods[:-1] + ", GradCAM(stage=0), LayerCAM, ScoreCAM(stage=0), RefineCAM(ShapleyCAM), "
        more[1] += "InputXGradient, 'KernelSHAP(samples=4)', RandomCAM, HalfCAM, All1sCAM]"
    evaluate([*evaluate_args(trained, here / "out"), *more, "--trainer.accelerator", "cpu"])
    table = pd.read_parquet(here / "out/per_image.parquet")
    assert len(table) == 3 * (2 if value == "bf16-true" else 15 if name == "deterministic" else 6)
    assert (here / "out/maps.png").is_file()
    assert {path.name for path in here.iterdir()} == {"config.yaml", "out"}
    assert (here / "out/config.yaml").is_file() == (name in ("logger", "barebones"))
    assert torch.are_deterministic_algorithms_enabled() == (name == "deterministic")  # DeepLift has put it back
    torch.use_deterministic_algorithms(False)


def test_another_logger_and_no_folder_for_checkpoints(here, capsys):
    """Its folder may be the working directory, and the checkpoints go where Lightning puts them."""
    train([*TINY, "--trainer.logger", "tests.test_switches.OwnLogger"])
    assert "Best weights: " in capsys.readouterr().out
    (weights,) = here.rglob("best.ckpt")
    assert (weights.parent / "config.yaml").is_file()


class OwnLogger(Logger):
    """One that knows no folder of its own."""

    name, version, save_dir = "own", 0, "."

    def log_metrics(self, metrics, step=None):
        pass

    def log_hyperparams(self, params, *args, **kwargs):
        pass


@pytest.mark.slow
def test_processes_that_are_spawned(here, trained):
    command = [sys.executable, str(ROOT / "evaluate.py"), *evaluate_args(trained, here / "out")]
    command += ["--trainer.strategy", "ddp_spawn", "--trainer.devices", "2", "--trainer.accelerator", "cpu"]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Written to" in done.stdout
    assert len(pd.read_parquet(here / "out/per_image.parquet")) == 7 * 5


def test_a_locale_without_unicode(here, trained, evaluated):
    names = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
    environment = {**os.environ, **names, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "refinecam", "report", str(evaluated)]
    for more, expected in (([], "mean ? std"), (["--html", str(here / "page.html")], "Written")):
        done = subprocess.run([*command, *more], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        assert expected in done.stdout
    assert "±" in (evaluated / "summary.md").read_text(encoding="utf-8")
    assert (here / "page.html").stat().st_size > 1000


def test_files_are_written_as_utf_8():
    for path in (ROOT / "refinecam").rglob("*.py"):
        for line in path.read_text(encoding="utf-8").splitlines():
            if ".read_text(" in line or ".write_text(" in line:
                assert "encoding=" in line, f"{path}: {line.strip()}"
