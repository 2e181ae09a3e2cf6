"""Pictures in folders through evaluate.py: ImageNet's labels, masks, broken files, networks of any origin."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from PIL import Image
from skimage.data import chelsea, coffee

from refinecam.cli import evaluate, run
from refinecam.data import ImagesDataModule
from refinecam.models import load_network
from tests.command_lines import ROOT
from tests.models import test_foreign

WNIDS = {"n02123159": chelsea, "n07920052": coffee, "n02124075": lambda: chelsea()[:, ::-1]}
IMAGENET = ("--model.checkpoint", "imagenet-efficientnet_lite0")


@pytest.fixture
def root(tmp_path):
    for wnid, picture in WNIDS.items():
        (tmp_path / "pictures" / wnid).mkdir(parents=True)
        Image.fromarray(picture()).save(tmp_path / "pictures" / wnid / "1.png")
    return tmp_path / "pictures"


def arguments(root, output, *more):
    return [
        *("--data", "ImagesDataModule", "--data.root", str(root), "--data.batch_size", "2", "--output", str(output)),
        *("--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false", "--model.methods", "[LayerCAM]"),
        *("--model.scores", "[complexity]", *more),
    ]


def test_imagenet_pictures_are_scored_with_masks(root, tmp_path):
    for file in root.glob("*/*"):
        mask = tmp_path / "masks" / file.parent.name / file.name
        mask.parent.mkdir(parents=True)
        Image.fromarray(np.where(np.array(Image.open(file).convert("L")) > 100, 255, 0).astype(np.uint8)).save(mask)
    (root / "n02123159/2.png").write_bytes(b"broken")
    more = ("--data.masks", str(tmp_path / "masks"), "--model.scores", "null")
    with pytest.raises(SystemExit, match="masks: 1 of 4 pictures have none"):
        run(lambda: evaluate(arguments(root, tmp_path / "out", *IMAGENET, *more)))
    Image.new("L", (3, 3)).save(tmp_path / "masks/n02123159/2.png")
    evaluate(arguments(root, tmp_path / "out", *IMAGENET, *more))
    predictions = pd.read_parquet(tmp_path / "out/predictions.parquet")
    assert predictions["file"].tolist() == ["n02123159/1.png", "n02124075/1.png", "n07920052/1.png"]
    assert predictions["label"].tolist() == [282, 285, 967]
    table = pd.read_parquet(tmp_path / "out/per_image.parquet").set_index("index")
    right = predictions["label"].to_numpy() == predictions["predicted"].to_numpy()
    assert right[0]
    assert right[2]
    assert table["arcc"].notna().to_numpy().tolist() == right.tolist()
    assert table["cosine_similarity"].notna().to_numpy().tolist() == right.tolist()
    skipped = pd.read_csv(tmp_path / "out/skipped.csv")
    assert skipped["file"].tolist() == ["n02123159/2.png"]
    assert "1 more could not be read (skipped.csv)" in (tmp_path / "out/summary.md").read_text()


def test_pictures_that_are_all_broken_are_one_line(root, tmp_path):
    for file in root.glob("*/*"):
        file.write_bytes(b"broken")
    with pytest.raises(SystemExit, match=r"error: .*1\.png"):
        run(lambda: evaluate(arguments(root, tmp_path / "out", *IMAGENET)))
    assert not (tmp_path / "out/evaluation.json").exists()


def test_two_sets_of_pictures_have_two_names(root, tmp_path):
    shutil.copytree(root, tmp_path / "more/val")
    first, second = ImagesDataModule(root=str(root)), ImagesDataModule(root=str(tmp_path / "more"))
    assert (first.title, second.title) == ("3 pictures in pictures", "3 pictures in more/val")
    assert first.identity()["files"] == second.identity()["files"]


def test_processes_share_the_pictures(root, tmp_path):
    (root / "n02123159/0.png").write_bytes(b"broken")
    for number in range(4):
        Image.fromarray(coffee()[:, : 300 + 20 * number]).save(root / f"n07920052/{number + 2}.png")
    tables = []
    for processes in (1, 2):
        output = tmp_path / str(processes)
        command = [sys.executable, "evaluate.py", *arguments(root, output, *IMAGENET)]
        command += ["--trainer.devices", str(processes), *(["--trainer.strategy", "ddp"] if processes == 2 else [])]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        tables.append(pd.read_parquet(output / "per_image.parquet"))
        assert len(pd.read_csv(output / "skipped.csv")) == 1
    pd.testing.assert_frame_equal(*tables, check_exact=False, atol=1e-5, rtol=0)


@pytest.mark.parametrize("origin", ["network", "torchvision"])
def test_networks_of_ones_own_are_evaluated(origin, root, tmp_path):
    for wnid, name in zip(WNIDS, ("cat", "espresso", "tiger"), strict=True):
        (root / wnid).rename(root / name)
    network = ("--model.network", "tests.models.test_foreign.own_network")
    if origin == "torchvision":
        torch.save(torchvision.models.resnet18(num_classes=3).state_dict(), tmp_path / "w.pth")
        network = ("--model.backbone", "resnet18", "--model.checkpoint", str(tmp_path / "w.pth"))
    more = ("--model.only_correct", "false", "--model.methods", "[RefineCAM(LayerCAM)]")
    evaluate(arguments(root, tmp_path / "out", *network, *more))
    table = pd.read_parquet(tmp_path / "out/per_image.parquet")
    assert table["label"].tolist() == [0, 1, 2]
    assert (tmp_path / "out/maps.png").exists()
    expected = load_network(tmp_path / "w.pth", "resnet18") if origin == "torchvision" else test_foreign.own_network()
    (batch,) = ImagesDataModule(root=str(root)).test_dataloader()
    with torch.no_grad():
        predicted = expected.eval()(batch["image"]).argmax(1).tolist()
    assert pd.read_parquet(tmp_path / "out/predictions.parquet")["predicted"].tolist() == predicted
    made = json.loads((tmp_path / "out/evaluation.json").read_text())["identity"].get("network")
    assert made == ("tests.models.test_foreign.own_network" if origin == "network" else None)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ((), "checkpoint: name trained weights, a backbone for its ImageNet weights, or a network"),
        ((*IMAGENET, "--data.root", "nowhere"), "root: there is no folder nowhere"),
        ((*IMAGENET, "--data.subset", "9"), "subset: there are 3 pictures, got 9"),
        (("--model.network", "a.b", "--model.backbone", "vgg11"), "a.b and backbone vgg11 are two networks"),
        (("--model.network", "tests.models.test_foreign.own_network"), "has 3 classes, the data have 1000"),
        (("--model.network", "tests.models.nothing"), "network: tests.models.nothing cannot be imported"),
    ],
)
def test_what_does_not_fit_ends_with_one_line(more, message, root, tmp_path):
    with pytest.raises(SystemExit) as stop:
        run(lambda: evaluate(arguments(root, tmp_path / "out", *more)))
    assert str(stop.value).startswith("error: ")
    assert message in str(stop.value)


def test_config_of_the_protocol_runs(root, tmp_path):
    """Table 1's, on a small network at 64 px."""
    config = ("--config", str(ROOT / "configs/evaluate/imagenet.yaml"), "--data.root", str(root))
    small = ("--data.subset", "2", "--data.num_workers", "0", "--model.image_size", "64", "--data.batch_size", "2")
    run = ("--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false", "--output", str(tmp_path / "out"))
    network = ("--model.network", "tests.models.test_foreign.small_network", "--model.only_correct", "false")
    evaluate([*config, *small, *run, *network])
    assert "2 of 3 pictures" in (tmp_path / "out/summary.md").read_text()
    table = pd.read_parquet(tmp_path / "out/per_image.parquet")
    assert len(table) == 2 * 15
    assert table["method"].nunique() == 15
