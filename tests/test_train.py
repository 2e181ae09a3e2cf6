"""train.py on tiny data, from YAML to files."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from refinecam.cli import run, train
from refinecam.configuration import TrainCLI, build
from refinecam.core.errors import InputError
from refinecam.data import CropStage
from refinecam.data.shapes import module as shapes_module
from refinecam.models import Classifier
from tests.command_lines import ROOT, read_events, train_args


def test_training_writes_checkpoints_config_and_curves(trained):
    assert {path.name for path in (trained / "weights").iterdir()} == {"best.ckpt", "last.ckpt"}
    (logs,) = trained.glob("train/version_*")
    assert (logs / "config.yaml").is_file()
    events = read_events(logs)
    scalars = set(events.Tags()["scalars"])
    assert {
        "train/loss",
        "train/accuracy",
        "val/loss",
        "val/accuracy",
        "test/accuracy",
    } <= scalars
    assert len(events.Scalars("val/accuracy")) == 2
    assert {"train/images", "val/predictions", "val/confusion", "val/maps"} <= set(events.Tags()["images"])
    assert len(events.Images("val/maps")) == 2  # epoch by epoch
    assert len(events.Images("train/images")) == 2  # crops, then whole images
    assert all(image.width > 30 and image.height > 30 for image in events.Images("train/images"))
    # the HParams tab: hyperparameters and the final metrics
    content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    chosen = HParamsPluginData.FromString(content).session_start_info.hparams
    assert chosen["learning_rate"].number_value == 2e-3
    assert chosen["train_size"].number_value == 24
    assert "_instantiator" not in chosen
    assert events.Scalars("final/test/accuracy")[0].value == events.Scalars("test/accuracy")[0].value


def test_training_resumes(trained, tmp_path):
    args = train_args(tmp_path)
    args[args.index("--trainer.max_epochs") + 1] = "3"
    train([*args, "--ckpt_path", str(trained / "weights/last.ckpt")])
    (logs,) = tmp_path.glob("train/version_*")
    events = read_events(logs)
    assert {event.step for event in events.Scalars("train/loss")} == {6, 7, 8}  # only the third epoch was trained
    assert events.Scalars("val/accuracy")[-1].step == 8
    (grid,) = events.Images("train/images")
    assert grid.height > 2 * 64  # whole images above their masks: the curriculum went on, too


def test_weights_that_were_never_validated_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"no best weights .* the last are .*last\.ckpt.*check_val_every_n_epoch"):
        train([*train_args(tmp_path), "--trainer.check_val_every_n_epoch", "9"])
    assert (tmp_path / "weights/last.ckpt").is_file()


def test_weights_of_an_earlier_training_are_kept(tmp_path):
    folder = tmp_path / "weights"
    folder.mkdir()
    for name in ("best", "last"):
        (folder / f"{name}.ckpt").write_text(f"earlier {name}")
    train(train_args(tmp_path))
    names = {"best.ckpt", "last.ckpt", "best-v1.ckpt", "last-v1.ckpt"}
    assert {path.name for path in folder.iterdir()} == names
    args = train_args(tmp_path)
    args[args.index("--trainer.max_epochs") + 1] = "3"
    train([*args, "--ckpt_path", str(folder / "last-v1.ckpt")])  # one that goes on writes over its own
    assert {path.name for path in folder.iterdir()} == names
    assert [(folder / f"{name}.ckpt").read_text() for name in ("best", "last")] == ["earlier best", "earlier last"]
    with pytest.raises(
        InputError, match=r"ckpt_path: .*last-v1.ckpt is at the end of its training, so nothing was trained"
    ):
        train([*args, "--ckpt_path", str(folder / "last-v1.ckpt")])


@pytest.mark.parametrize("quick", [True, False])
def test_a_run_that_trains_nothing_leaves_earlier_weights_where_they_are(tmp_path, quick, capsys):
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/best.ckpt").write_text("earlier")
    if quick:
        train([*train_args(tmp_path), "--trainer.fast_dev_run", "true"])
        assert "No weights were written: a quick check run" in capsys.readouterr().out
    else:
        with pytest.raises(InputError, match="no best weights to test"):
            train([*train_args(tmp_path), "--trainer.max_epochs", "0"])
    assert [path.name for path in (tmp_path / "weights").iterdir()] == ["best.ckpt"]


def test_training_whose_loss_is_not_finite_ends_and_keeps_its_weights(tmp_path):
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/last.ckpt").write_text("earlier")
    with pytest.raises(SystemExit, match=r"error: learning_rate: with 1e\+30 the loss is not finite after \d+ steps"):
        run(lambda: train([*train_args(tmp_path), "--model.learning_rate", "1e30", "--trainer.precision", "32-true"]))
    assert [path.name for path in (tmp_path / "weights").iterdir()] == ["last.ckpt"]


def test_what_does_not_fit_is_found_before_backgrounds_are_drawn(tmp_path, monkeypatch):
    monkeypatch.delattr(shapes_module, "CrowdScenes")
    for more, message in (
        (
            ["--data.bands", "[[300, 400]]"],
            r"bands: shapes of 400 px, on a canvas of 256 px, reach over 152 px of images of 64",
        ),
        (["--data.curriculum", "[{crop: 999, share: 0.5}]"], "crop: expected 1 to 67 pixels"),
    ):
        with pytest.raises(InputError, match=message):
            train([*train_args(tmp_path), *more])


def test_a_training_by_the_clock_is_validated_at_its_end(tmp_path):
    args = train_args(tmp_path)
    args[args.index("--trainer.max_epochs") + 1] = "-1"
    train([*args, "--trainer.max_time", "00:00:00:03", "--data.train_size", "100000", "--data.curriculum", "[]"])
    (logs,) = tmp_path.glob("train/version_*")
    (validation,) = read_events(logs).Scalars("val/accuracy")  # within the first epoch
    step = torch.load(tmp_path / "weights/last.ckpt", weights_only=True)["global_step"]
    assert validation.step == step - 1
    assert (tmp_path / "weights/best.ckpt").is_file()


def test_float32_where_bfloat16_is_only_emulated(monkeypatch):
    for native, expected in ((True, "bf16-mixed"), (False, "32-true")):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda native=native: native)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
        options = build(TrainCLI, Classifier, train_args(ROOT)).trainer
        assert options.precision == expected


def test_two_processes_train_on_every_sample_once_and_validate_on_an_odd_number(tmp_path):
    args = [*train_args(tmp_path), "--trainer.devices", "2", "--trainer.strategy", "ddp", "--data.batch_size", "4"]
    seen = {"class_path": "tests.command_lines.SeenSamples", "init_args": {"folder": str(tmp_path)}}
    args += ["--trainer.callbacks", json.dumps([seen]), "--model.teacher", "shapes-resnet18"]
    subprocess.run([sys.executable, "train.py", *args], cwd=ROOT, check=True, timeout=300)
    (logs,) = tmp_path.glob("train/version_*")
    for event in read_events(logs).Scalars("val/accuracy"):
        assert np.isclose(event.value * 9, round(event.value * 9))  # nine images, each once
    steps = [(tmp_path / f"rank{rank}.txt").read_text().splitlines() for rank in (0, 1)]
    # two epochs of 24 samples: the batches of four of both processes are those of eight of a single one
    together = [sorted(int(i) for part in step for i in part.split()) for step in zip(*steps, strict=True)]
    assert together == [list(range(first, first + 8)) for first in range(0, 48, 8)]


def test_two_processes_learn_what_one_learns(tmp_path):
    """Without batch norm, whose statistics are each process's own, they take the same steps."""
    curves = []
    for devices, more in ((1, []), (2, ["--trainer.strategy", "ddp"])):
        args = [*train_args(tmp_path / str(devices)), "--trainer.devices", str(devices), *more]
        args += ["--model.backbone", "test_convnext", "--model.learning_rate", "3e-3", "--model.warmup", "0"]
        args += ["--trainer.precision", "32-true", "--data.batch_size", str(8 // devices)]
        subprocess.run([sys.executable, "train.py", *args], cwd=ROOT, check=True, timeout=300)
        (logs,) = (tmp_path / str(devices)).glob("train/version_*")
        curves.append([event.value for event in read_events(logs).Scalars("val/loss")])
    assert curves[1] == pytest.approx(curves[0], rel=1e-3)
    assert abs(curves[0][1] / curves[0][0] - 1) > 1e-2  # it does learn: equal curves of no training prove nothing


@pytest.mark.parametrize("config", sorted((ROOT / "configs/train").glob("*.yaml")), ids=lambda path: path.stem)
def test_configs_build_a_network_that_takes_their_images(config, birds):
    of_birds = "class_path" in yaml.safe_load(config.read_text())["data"]
    args = ["--config", str(config), "--model.pretrained", "false", "--trainer.logger", "false"]
    args += ["--data.folder", str(birds)] if of_birds else ["--data.backgrounds", "[procedural, DIR]"]
    parts = build(TrainCLI, Classifier, args)
    if not of_birds:
        assert parts.datamodule.sources == ["procedural", "DIR"]
    crops = {stage.crop for stage in getattr(parts.datamodule, "curriculum", ())}
    for size in crops or {parts.datamodule.transform.image_size}:
        logits = parts.model(torch.zeros(2, 3, size, size))
        assert logits.shape == (2, len(parts.datamodule.classes))
    trainer = yaml.safe_load(config.read_text())["trainer"]
    every = trainer.get("check_val_every_n_epoch", 1)
    assert every == 1 or trainer["max_epochs"] % every == 0  # the last epoch's weights count, too


def test_another_curriculum_leaves_nothing_of_the_one_in_the_config(tmp_path):
    (tmp_path / "mine.yaml").write_text("data: {curriculum: [{crop: 48, share: 0.4, fill: true, train_size: 640}]}")
    args = ["--config", str(tmp_path / "mine.yaml"), "--data.curriculum", "[{crop: 64, share: 0.2}]"]
    args += ["--model.pretrained", "false", "--trainer.logger", "false"]
    assert build(TrainCLI, Classifier, args).datamodule.curriculum == (CropStage(64, 0.2),)


@pytest.mark.parametrize(("name", "value"), [("image_size", 48), ("backbone", "vgg11")])
def test_a_config_of_what_the_model_decides_is_refused(tmp_path, name, value):
    (tmp_path / "mine.yaml").write_text(f"data: {{{name}: {value}, train_size: 8}}")
    message = f"data.{name}: the data follow the model; instead of {value} here give --model.{name}"
    for more in (["--config", str(tmp_path / "mine.yaml")], [f"--data.{name}", str(value)]):
        with pytest.raises(InputError, match=message):
            train([*train_args(tmp_path), *more])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--model.backbone", "resnet81"], "timm has no model named 'resnet81'; close to it: resnet18"),
        (["--model.backbone", "vit_tiny_patch16_224"], "curriculum: vit_tiny_patch16_224 takes images of 64 px only"),
        (["--data.backgrounds", "nowhere"], "backgrounds: there is no folder nowhere"),
        (["--data.curriculum", '[{"crop": 999, "share": 0.5}]'], "crop: expected 1 to 67 pixels"),
        (["--data.bands", "[[50, 40]]"], "bands: expected (low, high)"),
        (["--pictures.methods", "GradCAM(stage=9)"], "stage: no stage 9"),
        (["--model.checkpoint", "shapes-x"], "no file shapes-x; train.py writes one, or name weights of the project"),
        (["--ckpt_path", "nowhere.ckpt"], "ckpt_path: there is no file nowhere.ckpt"),
        (["--config", "nowhere.yaml"], "File does not exist: "),
        (["--model.num_classes", "7"], 'Linked "model.num_classes" must be given via "data"'),
        (["--model.learnig_rate", "1e-3"], "arguments: --model.learnig_rate 1e-3; close to it: --model.learning_rate"),
        (
            ["--config", str(ROOT / "configs/evaluate/shapes.yaml")],
            "Group 'model' does not accept option 'methods'; it is an option of evaluate.py",
        ),
        (["--data.train_size", "many"], "data.train_size: Expected a <class 'int'>. Got value: many"),
        (
            ["--data.curriculum", "[{crop: 32}]"],
            "data: the following arguments are required: share; --help lists",
        ),
        (
            ["--data.curriculum", "[{corp: 4, share: 0.5}]"],
            "data.curriculum: Option 'corp' is not accepted; close to it: crop",
        ),
        (["--trainer.max_time", "00:30:00"], "trainer.max_time: expected days:hours:minutes:seconds"),
        (["--trainer.reload_dataloaders_every_n_epochs", "0"], "curriculum: crops change between epochs"),
    ],
)
def test_bad_training_input_ends_with_one_line(tmp_path, more, message):
    with pytest.raises(SystemExit) as stop:
        run(lambda: train([*train_args(tmp_path), *more]))
    assert str(stop.value).startswith("error: ")
    assert message in str(stop.value)
    assert "\n" not in str(stop.value)


def test_a_misspelt_name_in_a_config_is_told_the_right_one(tmp_path):
    (tmp_path / "mine.yaml").write_text("model: {lerning_rate: 1e-3}")
    with pytest.raises(SystemExit, match=r"option 'lerning_rate'; close to it: --model.learning_rate"):
        run(lambda: train([*train_args(tmp_path), "--config", str(tmp_path / "mine.yaml")]))


def test_truncated_background_is_named(page_folder, tmp_path):
    path = page_folder / "book1_s3_0_0.jpg"
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(SystemExit, match=r"error: backgrounds: .*book1_s3_0_0.jpg cannot be read"):
        run(lambda: train([*train_args(tmp_path), "--data.backgrounds", str(page_folder)]))
