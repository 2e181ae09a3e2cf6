"""Folders and files that cannot be used."""

import json
import re
import shutil

import numpy as np
import pytest

from refinecam.core.errors import InputError
from refinecam.data import JointTransform
from refinecam.data.funnybirds import FunnyBirds
from tests.data.funnybirds.files import as_is, save


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
        (
            shutil.rmtree,
            r"there is no folder .*copied; download true .* -m refinecam.data.funnybirds data/birds",
        ),
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
            "parts beak, foot, tail, wing instead of beak, eye",
        ),
        (edit("classes.json", lambda e: e[0]["parts"].update(ear=1)), "class 0 of .* has parts beak, ear"),
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
        ({"split": "val"}, r"split: expected one of train, test, got 'val'"),
        ({"keep": [0, 3]}, "keep: expected places from 0 to 2, got 3"),
        ({"transform": JointTransform(48, 55)}, "a canvas of 55 px is cropped to 48"),
        ({"split": "train", "interventions": True}, "has no train_interventions"),
    ],
)
def test_arguments_that_cannot_be_used(folder, options, message):
    with pytest.raises(InputError, match=message):
        FunnyBirds(folder, **{"split": "test", "transform": as_is(), **options})
