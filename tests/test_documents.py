"""What the documents show works as it stands there."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from PIL import Image
from skimage.data import astronaut

from refinecam.attribution import METHODS
from refinecam.cli import evaluate, train
from refinecam.metrics import SCORES
from tests.attribution.oracle import TARGETS
from tests.command_lines import ROOT


def blocks(document: str) -> list[str]:
    return re.findall(r"```python[^\n]*\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)


@pytest.mark.parametrize("number", range(3))
def test_readme_blocks_run(number, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(astronaut()).save("photo.jpg")
    torch.manual_seed(0)
    exec(blocks("README.md")[number], {})
    assert (tmp_path / "overlay.png").exists() == (number == 0)


def test_both_libraries_give_the_same(backbones, batch):
    theirs, ours, scored = blocks("docs/from-gradcam.md")
    names = {"model": backbones["resnet18"], "x": batch, "y": torch.tensor(TARGETS)}
    exec(theirs, names)
    exec(ours, names)
    np.testing.assert_allclose(names["ours"][:, 0], names["theirs"], atol=1e-5)
    np.testing.assert_allclose(names["our_scores"], names["their_scores"], atol=0.05)  # noise, and the tie rule
    exec(scored, names)


def test_notebook_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cells = json.loads((ROOT / "examples/explain.ipynb").read_text())["cells"]
    names: dict = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    assert names["explanation"].name
    assert len(names["table"]) > 4


def test_metric_loop_runs(tiny_net, images, targets):
    (block,) = blocks("docs/methods.md")
    names = {"model": tiny_net, "loader": [(images, targets)], "cam": METHODS["GradCAM"]("deep")}
    exec(block, names)
    assert names["metrics"][1].summary().scored == 5


@pytest.fixture
def registered():
    before = dict(SCORES), dict(METHODS)
    yield
    for registry, known in zip((SCORES, METHODS), before, strict=True):
        registry.clear()
        registry.update(known)


def test_extensions_are_evaluated(registered, trained, tmp_path, monkeypatch):
    """The score, the CAM and the data set of docs/extending.md, each from its one file."""
    score, cam, data, _ = blocks("docs/extending.md")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, text in (("gini", score), ("hires_cam", cam), ("stripes", data)):
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)
    module = __import__("gini")
    __import__("hires_cam")
    assert module.gini(torch.tensor([[[[0.0, 0.0, 0.0, 1.0]]], [[[0.5, 0.5, 0.5, 0.5]]]])).tolist() == [0.75, 0.0]
    monkeypatch.setattr(__import__("stripes").StripesDataModule, "classes", ())  # the network knows six
    evaluate(
        [
            *("--model.checkpoint", str(trained / "weights/best.ckpt"), "--model.only_correct", "false"),
            *("--model.methods", "[HiResCAM, RefineCAM(HiResCAM), RandomCAM]", "--model.scores", "[gini, iou]"),
            *("--data", "stripes.StripesDataModule", "--data.test_size", "3", "--output", str(tmp_path / "out")),
            *("--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"),
        ]
    )
    table = pd.read_parquet(tmp_path / "out/per_image.parquet")
    assert table["method"].unique().tolist() == ["HiResCAM", "RefineCAM(HiResCAM)", "RandomCAM"]
    assert table.loc[table["method"] == "RandomCAM", ["gini", "iou"]].notna().all(axis=None)
    assert Path(tmp_path / "out/maps.png").exists()


def test_backbone_of_ones_own_is_trained_and_evaluated(tmp_path, monkeypatch):
    (tmp_path / "little_net.py").write_text(blocks("docs/extending.md")[3])
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(timm.models._registry, "_model_entrypoints", dict(timm.models._registry._model_entrypoints))
    __import__("little_net")
    small = ("--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false", "--trainer.logger", "false")
    data = ("--data.test_size", "4", "--data.batch_size", "4", "--data.num_workers", "0")
    options = ("--model.backbone", "little_net", "--model.image_size", "64", "--model.pretrained", "false")
    sizes = ("--data.train_size", "8", "--data.val_size", "4", "--trainer.max_epochs", "1")
    monkeypatch.chdir(tmp_path)  # without a logger the config is written where one is
    train([*options, *data, *sizes, *small, "--checkpoint.dirpath", str(tmp_path / "weights")])
    methods = ("--model.checkpoint", str(tmp_path / "weights/best.ckpt"), "--model.methods", "RefineCAM(LayerCAM)")
    evaluate([*methods, *data, *small, "--model.only_correct", "false", "--output", str(tmp_path / "out")])
    assert len(pd.read_parquet(tmp_path / "out/per_image.parquet")) == 4


def test_a_data_module_that_knows_nothing_of_ours_is_evaluated(trained, tmp_path, monkeypatch):
    text = blocks("docs/extending.md")[2].replace("(DataModule)", "(L.LightningDataModule)")
    text = "import lightning as L\n" + text.replace('    classes = ("left", "right")\n', "")
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "plain_stripes.py").write_text(text)
    evaluate(
        [
            *("--model.checkpoint", str(trained / "weights/best.ckpt"), "--model.methods", "[GradCAM]"),
            *(
                "--data",
                "plain_stripes.StripesDataModule",
                "--model.target",
                "predicted",
                "--output",
                str(tmp_path / "out"),
            ),
            *("--model.only_correct", "false", "--trainer.accelerator", "cpu", "--trainer.logger", "CSVLogger"),
            *("--trainer.logger.save_dir", str(tmp_path / "csv"), "--trainer.enable_progress_bar", "false"),
        ]
    )
    table = pd.read_parquet(tmp_path / "out/per_image.parquet")
    assert (table["target"] == table["predicted"]).all()
    assert (table["target"] != table["label"]).any()
    (logged,) = (tmp_path / "csv").rglob("metrics.csv")
    assert "cosine_similarity/GradCAM, stage -1" in logged.read_text().splitlines()[0]


@pytest.mark.parametrize(
    "path", [*ROOT.glob("*.md"), *ROOT.glob("*/*.md"), *ROOT.glob("*.py"), *ROOT.glob("configs/*/*")], ids=str
)
def test_named_files_exist(path):
    for name in re.findall(r"(?<![\w/])(?:configs|docs|tests)/[\w/.-]+\.(?:yaml|md|py|jpg)", path.read_text()):
        assert (ROOT / name).exists(), name
