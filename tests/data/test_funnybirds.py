import hashlib
import http.server
import io
import itertools
import json
import re
import shutil
import socket
import stat
import threading
import zipfile
from collections import Counter
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import to_tensor

from refinecam.bird_parts import PART_COLOURS, PARTS, subset_of
from refinecam.data import FunnyBirdsDataModule, JointTransform
from refinecam.data.funnybirds import FunnyBirds
from refinecam.data.funnybirds.archive import fetch_archive
from refinecam.data.funnybirds.dataset import collate
from refinecam.errors import InputError

SIZE = 48
OBJECTS = ("", "3,", "0,4,1,")  # of the test images, as the official lists have them
COLOURS = {colour for side in PART_COLOURS.values() for colour in side}


def as_is(size=SIZE):
    return JointTransform(size, size, (0.0,) * 3, (1.0,) * 3, "bilinear")


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    alpha = np.full((*pixels.shape[:2], 1), 200, np.uint8)
    Image.fromarray(np.concatenate([pixels, alpha], 2)).save(path)


def plain(colour):
    return np.broadcast_to(np.uint8(colour), (SIZE, SIZE, 3))


def write_birds(folder):
    """Three classes with five training images and one test image each; noise, and a square of a random part."""
    rng = np.random.default_rng(0)
    classes = [{"class_idx": c, "parts": {part: (c + i) % 3 for i, part in enumerate(PARTS)}} for c in range(3)]
    lists = {
        "classes": classes,
        "dataset_train": [{"class_idx": i // 5, "bg_objects": "1,"} for i in range(15)],
        "dataset_test": [{"class_idx": c, "bg_objects": listed} for c, listed in enumerate(OBJECTS)],
    }
    for name, content in lists.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    for split in ("train", "test"):
        for index, entry in enumerate(lists[f"dataset_{split}"]):
            stem = f"{entry['class_idx']}/{index:06d}"
            image, part_map = rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8), np.zeros((SIZE, SIZE, 3), np.uint8)
            part_map[10:30, 5:25] = sorted(COLOURS)[index % len(COLOURS)]
            save(folder / split / f"{stem}.png", image)
            save(folder / f"{split}_part_map" / f"{stem}.png", part_map)
    for index, entry in enumerate(lists["dataset_test"]):
        scenes = folder / "test_interventions" / str(entry["class_idx"]) / f"{index:06d}"
        for kept in (kept for size in range(6) for kept in itertools.combinations(sorted(PARTS), size)):
            colour = [100 * (part in kept) for part in PARTS]
            pixels = plain([colour[0] + index, colour[1], colour[2]]).copy()
            pixels[0, 0] = (colour[3], colour[4], 0)
            save(scenes / f"body_{'_'.join(kept)}.png", pixels)
        for i in range(entry["bg_objects"].count(",")):
            save(scenes / "background_interventions" / f"{i}.png", plain([index, 10 + i, 77]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "birds"
    folder.mkdir()
    write_birds(folder)
    return folder


@pytest.fixture
def copied(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copied")


def ready(**options):
    """A data module with all of its splits."""
    module = FunnyBirdsDataModule(**options)
    for stage in ("fit", "test"):
        module.setup(stage)
    return module


def test_values_are_those_of_the_official_reader(folder):
    found = FunnyBirds(folder, "test", as_is(), part_maps=True)
    assert len(found) == 3
    for index in range(3):
        sample = found[index]
        assert (sample["label"], sample["index"]) == (index, index)
        assert set(sample) == {"image", "label", "index", "part_map"}
        image, part_map = (Image.open(folder / name / f"{index}/{index:06d}.png") for name in ("test", "test_part_map"))
        assert torch.equal(sample["image"], to_tensor(image)[:3])
        assert torch.equal(sample["part_map"], torch.from_numpy(np.array(part_map)[..., :3]).permute(2, 0, 1).float())


@pytest.mark.parametrize("size", [224, 64])
def test_part_maps_keep_their_colours_and_their_place_when_resized(copied, size):
    part_map = np.zeros((256, 256, 3), np.uint8)
    squares = [(slice(0, 61), slice(30, 77)), (slice(100, 171), slice(130, 256)), (slice(203, 256), slice(0, 90))]
    colours = [PART_COLOURS["foot"][1], PART_COLOURS["eye"][0], PART_COLOURS["wing"][0]]
    for square, colour in zip(squares, colours, strict=True):
        part_map[square] = colour
    for index, square in enumerate(squares):
        image = np.zeros((256, 256, 3), np.uint8)
        image[square] = 255
        save(copied / f"test/{index}/{index:06d}.png", image)
        save(copied / f"test_part_map/{index}/{index:06d}.png", part_map)
    for sample, colour in zip(FunnyBirds(copied, "test", as_is(size), part_maps=True), colours, strict=True):
        pixels = sample["part_map"].permute(1, 2, 0)
        assert pixels.shape == (size, size, 3)
        assert {tuple(c) for c in pixels.reshape(-1, 3).unique(dim=0).int().tolist()} == {(0, 0, 0), *colours}
        of_part = (pixels == torch.tensor(colour)).all(2)
        of_image = sample["image"][0] > 0.5
        for box in (torch.Tensor.amin, torch.Tensor.amax):
            part, white = (box(mask.nonzero(), 0) for mask in (of_part, of_image))
            assert (part - white).abs().max() <= 1


def test_interventions_are_in_the_order_of_the_parts(folder):
    found = FunnyBirds(folder, "test", as_is(), part_maps=True, interventions=True)[2]
    assert found["subsets"].shape == (32, 3, SIZE, SIZE)
    for subset, scene in enumerate(found["subsets"]):
        colour = [100 * (subset >> place & 1) for place in range(5)]
        assert (scene[:, 5, 5] * 255).round().int().tolist() == [colour[0] + 2, colour[1], colour[2]]
        assert (scene[:2, 0, 0] * 255).round().int().tolist() == colour[3:]
    named = Image.open(folder / "test_interventions/2/000002/body_beak_wing.png")
    assert torch.equal(found["subsets"][subset_of(["beak", "wing"])], to_tensor(named)[:3])
    assert (found["removals"][:, :, 7, 7] * 255).round().int().tolist() == [[2, 10, 77], [2, 11, 77], [2, 12, 77]]


@pytest.mark.parametrize(("places", "objects"), [([0, 1, 2], [0, 1, 3]), ([0], [0]), ([2, 0], [3, 0])])
def test_batches_of_samples_with_different_numbers_of_objects(folder, places, objects):
    samples = list(FunnyBirds(folder, "test", as_is(), True, True, keep=places))
    batch = collate(samples)
    assert batch["index"].tolist() == batch["label"].tolist() == places
    assert batch["objects"].tolist() == objects
    assert batch["objects"].dtype == batch["index"].dtype == torch.int64
    assert batch["image"].shape == batch["part_map"].shape == (len(places), 3, SIZE, SIZE)
    assert batch["subsets"].shape == (len(places), 32, 3, SIZE, SIZE)
    assert batch["removals"].shape == (sum(objects), 3, SIZE, SIZE)
    for sample, removals in zip(samples, batch["removals"].split(objects), strict=True):
        assert torch.equal(sample["removals"], removals)
    assert "objects" not in collate(list(FunnyBirds(folder, "test", as_is())))


def test_validation_images_are_training_images_that_are_not_trained_on(folder):
    module = ready(folder=str(folder), image_size=SIZE, val_share=0.3, interventions=True, batch_size=2)
    sets = module.datasets
    assert {name: found.split for name, found in sets.items()} == {"train": "train", "val": "train", "test": "test"}
    assert sorted(sets["train"].places + sets["val"].places) == list(range(15))
    assert Counter(sets["val"].labels[i] for i in sets["val"].places) == {0: 2, 1: 2, 2: 2}
    seen = torch.cat([batch["index"] for batch in module.val_dataloader()])
    assert seen.tolist() == sets["val"].places
    batch = next(iter(module.val_dataloader()))
    first = int(seen[0])
    assert torch.equal(batch["image"][0], to_tensor(Image.open(folder / f"train/{first // 5}/{first:06d}.png"))[:3])
    assert set(batch) == {"image", "label", "index"}
    batches = list(module.test_dataloader())
    assert [batch["objects"].tolist() for batch in batches] == [[0, 1], [3]]
    assert "part_map" in batches[0]  # which the interventions' scores need
    assert module.classes == ("class 0", "class 1", "class 2")
    assert module.bird_classes == json.loads((folder / "classes.json").read_text())


@pytest.mark.parametrize(("share", "expected"), [(0.01, 1), (0.5, 2), (0.99, 4)])
def test_every_class_is_validated_and_trained_on(folder, share, expected):
    module = FunnyBirdsDataModule(folder=str(folder), val_share=share)
    module.setup("fit")
    assert Counter(module.datasets["val"].labels[i] for i in module.datasets["val"].places) == dict.fromkeys(
        range(3), expected
    )


def test_a_class_with_one_image_is_only_trained_on(copied):
    entries = json.loads((copied / "dataset_train.json").read_text())[:6]
    (copied / "dataset_train.json").write_text(json.dumps(entries))
    module = FunnyBirdsDataModule(folder=str(copied))
    module.setup("fit")
    assert 5 in module.datasets["train"].places
    assert len(module.datasets["val"]) == 1


def test_fewer_images_are_spread_over_the_classes(folder):
    whole, few = (ready(folder=str(folder), train_size=n, test_size=2) for n in (None, 6))
    assert Counter(i // 5 for i in few.datasets["train"].places) == {0: 2, 1: 2, 2: 2}
    assert few.datasets["val"].places == whole.datasets["val"].places
    assert len(few.datasets["test"]) == 2


def test_normalisation_and_size(folder):
    found = [FunnyBirdsDataModule(folder=str(folder), image_size=None, normalise=normalise) for normalise in (0, 1)]
    own = JointTransform.for_backbone("resnet18")
    assert [module.transform.canvas for module in found] == [own.image_size] * 2  # nothing is cropped
    assert [module.transform.image_size for module in found] == [own.image_size] * 2
    assert [module.transform.mean for module in found] == [(0.0, 0.0, 0.0), own.mean]
    assert [module.transform.std for module in found] == [(1.0, 1.0, 1.0), own.std]


class Recorder(L.LightningModule):
    """Writes down which images it was trained on."""

    def __init__(self):
        super().__init__()
        self.seen = {0: [], 1: []}

    def training_step(self, batch):
        self.seen[self.current_epoch] += batch["index"].tolist()

    def configure_optimizers(self):
        return None


@pytest.mark.parametrize("reloaded", [0, 1])
@pytest.mark.filterwarnings("ignore:`training_step` returned", "ignore:`LightningModule.configure_optimizers`")
@pytest.mark.filterwarnings("ignore:You passed in a `val_dataloader`")
@pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers")
def test_training_is_in_another_order_every_epoch(folder, reloaded):
    module, model = FunnyBirdsDataModule(folder=str(folder), image_size=16, batch_size=4), Recorder()
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = L.Trainer(
        max_epochs=2, accelerator="cpu", limit_val_batches=0, reload_dataloaders_every_n_epochs=reloaded, **quiet
    )
    trainer.fit(model, module)
    for seen in model.seen.values():
        assert len(set(seen)) == len(seen) == 12
        assert set(seen) <= set(module.datasets["train"].places)
    assert model.seen[0] != model.seen[1]


def edit(name, change):
    def apply(folder):
        content = json.loads((folder / name).read_text())
        change(content)
        (folder / name).write_text(json.dumps(content))

    return apply


def one_level_too_deep(folder):
    content = list(folder.iterdir())
    (folder / "FunnyBirds").mkdir()
    for path in content:
        path.rename(folder / "FunnyBirds" / path.name)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shutil.rmtree, r"there is no folder .*copied; --data.download true .* -m refinecam.data.funnybirds .*copied"),
        (one_level_too_deep, r"copied has no classes.json; name .*copied/FunnyBirds$"),
        (lambda f: (f / "classes.json").unlink(), "copied has no classes.json; name a folder in FunnyBirds' layout"),
        (lambda f: (f / "dataset_test.json").unlink(), "has no dataset_test.json"),
        (lambda f: shutil.rmtree(f / "test"), "has no test;"),
        (lambda f: shutil.rmtree(f / "test_part_map"), "has no test_part_map;"),
        (lambda f: shutil.rmtree(f / "test_interventions"), "has no test_interventions;"),
        (lambda f: (f / "classes.json").write_text("[{"), r"classes.json cannot be read \(.*; repair it, or fetch"),
        (lambda f: (f / "dataset_test.json").write_bytes(b"\xff"), r"dataset_test.json cannot be read"),
        (lambda f: (f / "dataset_test.json").write_text("{}"), "dataset_test.json is not a list of objects"),
        (lambda f: (f / "dataset_test.json").write_text("[]"), "dataset_test.json is not a list of objects"),
        (edit("dataset_test.json", lambda e: e[1].update(class_idx=3)), "entry 1 .* class_idx 3, .* classes 0 to 2"),
        (edit("dataset_test.json", lambda e: e[2].update(class_idx="0")), "entry 2 of .* has class_idx '0'"),
        (edit("dataset_test.json", lambda e: e[2].pop("class_idx")), "entry 2 of .* has class_idx None"),
        (edit("dataset_test.json", lambda e: e[2].pop("bg_objects")), "entry 2 of .* has no bg_objects"),
        (edit("classes.json", lambda e: e[1].update(class_idx=2)), r'entry 1 of .* not of the form {"class_idx": 1'),
        (edit("classes.json", lambda e: e[1].update(parts=[1])), r"entry 1 of .*classes.json is not of the form"),
        (
            edit("classes.json", lambda e: e[1]["parts"].pop("eye")),
            "the parts beak, foot, tail, wing instead of beak, eye",
        ),
        (edit("classes.json", lambda e: e[0]["parts"].update(ear=1)), "class 0 of .* has the parts beak, ear"),
        (lambda f: shutil.rmtree(f / "test/1"), r"test/1/000001.png is missing \(1 of the 106 files"),
        (lambda f: (f / "test_part_map/0/000000.png").unlink(), r"test_part_map/0/000000.png is missing \(1 of"),
        (
            lambda f: shutil.rmtree(f / "test_interventions/2/000002"),
            r"test_interventions/2/000002/body_.png is missing \(35 of",
        ),
        (
            lambda f: (f / "test_interventions/2/000002/background_interventions/1.png").unlink(),
            r"background_interventions/1.png is missing \(1 of",
        ),
    ],
)
def test_folders_that_cannot_be_used(copied, damage, message):
    damage(copied)
    with pytest.raises(InputError, match=message) as found:
        FunnyBirds(copied, "test", as_is(), part_maps=True, interventions=True)
    assert "\n" not in str(found.value)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-200])


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("test/1/000001.png", truncate, "cannot be read"),
        ("test/1/000001.png", lambda path: path.write_text("no image"), "cannot be read"),
        ("test/1/000001.png", lambda path: save(path, np.zeros((9, 7, 3), np.uint8)), "7 x 9 px; expected a square"),
        ("test_part_map/1/000001.png", truncate, "cannot be read"),
        (
            "test_part_map/1/000001.png",
            lambda path: save(path, np.zeros((9, 9, 3), np.uint8)),
            "9 x 9 px; expected 48 x 48, as its image has",
        ),
        (
            "test_interventions/1/000001/body_eye.png",
            lambda path: save(path, np.zeros((48, 9, 3), np.uint8)),
            "9 x 48 px; expected 48 x 48",
        ),
        ("test_interventions/1/000001/background_interventions/0.png", lambda path: path.write_text(""), "cannot"),
    ],
)
def test_files_that_cannot_be_used(copied, name, damage, message):
    damage(copied / name)
    found = FunnyBirds(copied, "test", as_is(), part_maps=True, interventions=True)
    assert found[0]["index"] == 0
    with pytest.raises(InputError, match=f"{re.escape(str(copied / name))} .*{message}"):
        found[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "val"}, r"split: expected one of \('train', 'test'\), got 'val'"),
        ({"keep": [0, 3]}, "keep: expected places from 0 to 2, got 3"),
        ({"transform": JointTransform(48, 55)}, "a canvas of 55 px is cropped to 48"),
        ({"split": "train", "interventions": True}, "has no train_interventions"),
    ],
)
def test_arguments_that_cannot_be_used(folder, options, message):
    with pytest.raises(InputError, match=message):
        FunnyBirds(folder, **{"split": "test", "transform": as_is(), **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"val_share": 0.0}, "val_share: expected a share between 0 and 1, got 0.0"),
        ({"val_share": 1.0}, "val_share"),
        ({"batch_size": 0}, "batch_size: expected a whole number"),
        ({"image_size": 0}, "image_size: expected a whole number"),
        ({"train_size": 13}, "train_size: there are only 12 images, got 13"),
        ({"test_size": 4}, "test_size: there are only 3 images, got 4"),
        ({"folder": "nowhere/birds"}, "there is no folder nowhere/birds; --data.download true"),
        ({"backbone": "resnet19"}, "no model named 'resnet19'"),
    ],
)
def test_options_that_cannot_be_used(folder, options, message):
    with pytest.raises(InputError, match=message):
        ready(**{"folder": str(folder), **options})


class Server:
    """An archive on localhost: in whole or from a byte on, cut off, with a false length, or as an error."""

    def __init__(self, body):
        self.body, self.ranges, self.cut, self.status, self.requests = body, True, None, None, []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *args):
                pass

            def do_GET(self):
                asked = self.headers.get("Range")
                outer.requests.append(asked)
                start = int(asked[6:-1]) if asked and outer.ranges else 0
                size = len(outer.body)
                status = outer.status or (416 if start >= size else 206 if asked and outer.ranges else 200)
                sent = outer.body[start:] if status < 400 else b""
                self.send_response(status)
                self.send_header("Content-Length", str(len(sent)))
                if status in (206, 416):
                    what = f"{start}-{size - 1}" if status == 206 else "*"
                    self.send_header("Content-Range", f"bytes {what}/{size}")
                self.end_headers()
                self.wfile.write(sent[: outer.cut])

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/FunnyBirds.zip"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.thread.start()

    def close(self):
        self.http.shutdown()
        self.http.server_close()


def packed(entries):
    """A zip with these files, not compressed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def archive(folder):
    files = {str(path.relative_to(folder.parent)): path for path in sorted(folder.rglob("*")) if path.is_file()}
    junk = {"__MACOSX/classes.json": b"?", "readme.txt": b"about"}
    return packed(junk | {name: path.read_bytes() for name, path in files.items()})


@pytest.fixture
def server(archive):
    server = Server(archive)
    yield server
    server.close()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "data" / "FunnyBirds"


def left(target):
    """What lies beside the data set."""
    return sorted(path.name for path in target.parent.iterdir())


def test_archive_is_fetched_by_the_data_module(server, target, folder, monkeypatch):
    monkeypatch.setattr("refinecam.data.funnybirds.module.URL", server.url)
    module = FunnyBirdsDataModule(folder=str(target), download=True, image_size=SIZE)
    assert len(module.classes) == 50
    module.prepare_data()
    assert left(target) == ["FunnyBirds"]
    assert torch.equal(FunnyBirds(target, "test", as_is())[1]["image"], FunnyBirds(folder, "test", as_is())[1]["image"])
    with pytest.raises(InputError, match="has 3 classes, not the 50 that the network was built for"):
        module.setup("fit")
    again = FunnyBirdsDataModule(folder=str(target), download=True, image_size=SIZE)
    again.prepare_data()
    again.setup("fit")
    assert server.requests == [None]
    with pytest.raises(InputError, match="is there already"):
        fetch_archive(server.url, target)


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_that_broke_off_goes_on(server, target, archive, ranges):
    server.cut, server.ranges = 5000, ranges
    with pytest.raises(InputError, match=rf"broke off after 5000 of {len(archive)} bytes; try again .*is kept"):
        fetch_archive(server.url, target)
    assert left(target) == ["FunnyBirds.zip.part"]
    server.cut = None
    fetch_archive(server.url, target, sha256=hashlib.sha256(archive).hexdigest())
    assert server.requests == [None, "bytes=5000-"]
    assert left(target) == ["FunnyBirds"]
    assert (target / "classes.json").is_file()


@pytest.mark.parametrize("ranges", [True, False])
def test_a_finished_download_is_not_repeated(server, target, archive, ranges):
    server.ranges = ranges
    target.parent.mkdir()
    target.with_name("FunnyBirds.zip.part").write_bytes(archive)
    (target.with_name("FunnyBirds.unpacking") / "half").mkdir(parents=True)
    fetch_archive(server.url, target)
    assert left(target) == ["FunnyBirds"]
    assert not (target / "half").exists()


def test_a_part_of_another_archive_is_dropped(server, target, archive):
    target.parent.mkdir()
    target.with_name("FunnyBirds.zip.part").write_bytes(bytes(len(archive) + 1))
    fetch_archive(server.url, target)
    assert left(target) == ["FunnyBirds"]
    assert server.requests[-1] is None


def damaged(archive):
    """The archive with one wrong byte, in the content of a list."""
    place = archive.index(b"bg_objects")
    return archive[:place] + b"?" + archive[place + 1 :]


def linked():
    link = zipfile.ZipInfo("FunnyBirds/test")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    return packed({"FunnyBirds/classes.json": b"[]", link: b"/etc"})


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (lambda archive: b"no zip", "no intact archive of FunnyBirds: File is not a zip file; try again, or download"),
        (lambda archive: archive[:-100], "no intact archive"),
        (damaged, "Bad CRC-32"),
        (lambda archive: packed({"birds/parts.json": b"[]"}), "there is no classes.json in it"),
        (lambda archive: packed({"F/classes.json": b"[]", "../evil": b""}), r"entry '../evil' is a link, or lies out"),
        (lambda archive: packed({"F/classes.json": b"[]", "F/../../evil": b""}), "entry 'F/../../evil'"),
        (lambda archive: packed({"F/classes.json": b"[]", "..\\evil": b""}), "evil' is a link, or lies outside"),
        (lambda archive: packed({"F/classes.json": b"[]", "/tmp/evil": b""}), "entry '/tmp/evil'"),
        (lambda archive: linked(), "entry 'FunnyBirds/test' is a link"),
    ],
)
def test_archives_that_cannot_be_used(server, target, archive, body, message):
    server.body = body(archive)
    with pytest.raises(InputError, match=message) as found:
        fetch_archive(server.url, target)
    assert "\n" not in str(found.value)
    assert left(target) == []
    assert [path.name for path in target.parents[1].iterdir()] == ["data"]


def test_another_hash(server, target):
    with pytest.raises(InputError, match=r"its SHA-256 is [0-9a-f]{64}, not 0000"):
        fetch_archive(server.url, target, sha256="0" * 64)
    assert left(target) == []


def test_errors_of_the_server(server, target):
    server.status = 404
    by_hand = rf"download {server.url} by hand and unpack it as {target}, or draw a stand-in: python -m refinecam"
    with pytest.raises(InputError, match=rf"HTTP Error 404: Not Found; try again, or {by_hand}"):
        fetch_archive(server.url, target)
    assert left(target) == []


def test_without_a_network(target):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and does not listen
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/FunnyBirds.zip"
        with pytest.raises(InputError, match=rf"{url} cannot be fetched: .*refused.*, or download {url} by hand"):
            fetch_archive(url, target)
    assert left(target) == []


def test_a_full_disk(server, target, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "extract", full)
    with pytest.raises(InputError, match="No space left on device; make room or set permissions, then try again"):
        fetch_archive(server.url, target)
    assert left(target) == ["FunnyBirds.zip.part"]


SHARED = Path(__file__).parents[3] / "shared" / "data" / "funnybirds"


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs FunnyBirds")
def test_original_images():
    module = FunnyBirdsDataModule(folder=str(SHARED), interventions=True, batch_size=5)
    module.setup("test")
    body = torch.tensor([170.0, 170.0, 170.0])[:, None, None]
    for batch in module.test_dataloader():
        assert batch["image"].shape[1:] == (3, 256, 256)
        assert torch.equal(batch["subsets"][:, 31], batch["image"])  # nothing is removed
        assert (batch["part_map"] == body).all(1).any((1, 2)).all()
        for scene, part_map in zip(batch["subsets"], batch["part_map"], strict=True):
            changed = torch.stack([(scene[31] != scene[31 - (1 << place)]).any(0) for place in range(5)])
            for place, part in enumerate(PARTS):
                sides = [(part_map == torch.tensor(c)[:, None, None]).all(0) for c in PART_COLOURS[part]]
                of_part = torch.stack(sides).any(0)
                if of_part.sum() > 9:  # of all parts, it is this one that is no longer there without it
                    shares = changed[:, of_part].float().mean(1)
                    assert shares.argmax() == place
                    assert shares[place] > 0.3  # a black pupil may lie on a black shadow
