"""Data sets of our birds in FunnyBirds' layout: a stand-in for those who lack the archive, not the original."""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.progress import track

from refinecam.core.errors import InputError, check_counts
from refinecam.core.seeding import generator
from refinecam.data.funnybirds.anatomy import COLORS, VARIANTS
from refinecam.data.funnybirds.parts import PARTS, SUBSETS, intervention_name, sensitivity_pair
from refinecam.data.funnybirds.render import GONE, LISTED, Picture, Scene
from refinecam.data.funnybirds.solids import KINDS

MOST_OBJECTS = 34
TRIES = 200
Entry = dict[str, Any]


def write_birds(
    folder: str | Path,
    classes: int = 50,
    train_per_class: int = 1000,
    test_per_class: int = 10,
    seed: int = 0,
    size: int = 256,
    workers: int = 0,
    progress: bool = True,
) -> int:
    """Draw a data set; it appears as ``folder`` in one step, when all of it is there.

    Args:
        folder: must not exist.
        classes: combinations of parts, at most 2592, each used once.
        train_per_class: training images of each, half of them with some parts taken away.
        test_per_class: test images of each, with all 32 sets of parts and without each background object.
        seed: of every draw: the same arguments give the same files.
        size: side of the pictures.
        workers: processes that draw; 0 draws in this one.
        progress: show a bar.

    Returns:
        Number of pictures written.

    Raises:
        InputError: if the folder exists or cannot be written, or a number is out of range.
    """
    folder = Path(folder)
    check_counts(classes=classes, train_per_class=train_per_class, test_per_class=test_per_class, size=size)
    if workers < 0:
        raise InputError(f"workers: expected 0 or more, got {workers}")
    most = int(np.prod([len(VARIANTS[part]) for part in PARTS]))
    if classes > most:
        raise InputError(f"classes: there are {most} combinations of parts, got {classes}")
    if os.path.lexists(folder):
        raise InputError(f"folder: {folder} is there already; remove it or name another")
    chosen = draw_classes(classes, seed)
    lists = {
        "train": [draw_entry(chosen[i // train_per_class], "train", i, seed) for i in range(classes * train_per_class)],
        "test": [draw_entry(chosen[i // test_per_class], "test", i, seed) for i in range(classes * test_per_class)],
    }
    unfinished = folder.with_name(f"{folder.name}.drawing")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)  # of a run that was killed
        unfinished.mkdir(parents=True)
        described = {"classes": chosen, "parts": VARIANTS} | {f"dataset_{split}": lists[split] for split in lists}
        for name, content in described.items():
            (unfinished / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
        jobs = [(split, i, entry) for split, entries in lists.items() for i, entry in enumerate(entries)]
        draw = partial(write_sample, unfinished, size)
        written = sum(track(_each(draw, jobs, workers), "Drawing birds", total=len(jobs), disable=not progress))
        os.rename(unfinished, folder)
    except OSError as error:
        raise InputError(f"folder: {folder} cannot be written: {error}; make room or name another") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return written


def draw_classes(count: int, seed: int) -> list[Entry]:
    """Different combinations of parts: of several draws the one in which most birds have a Target Sensitivity pair."""
    best, most = [], -1
    for attempt in range(TRIES):
        rng, result = generator(seed, "birds/classes", attempt), dict[tuple[int, ...], None]()
        while len(result) < count:
            result[tuple(int(rng.integers(len(VARIANTS[part]))) for part in PARTS)] = None
        birds = [dict(zip(PARTS, variants, strict=True)) for variants in result]
        found_pairs = [sensitivity_pair(birds, label) for label in range(count)]
        pairs = sum(pair[0] >= 0 and not pair[2] & pair[3] for pair in found_pairs)
        if pairs > most:
            best, most = birds, pairs
        if most == count:
            break
    return [{"class_idx": label, "parts": bird} for label, bird in enumerate(best)]


def draw_entry(bird: Entry, split: str, index: int, seed: int) -> Entry:
    """Camera, light, parts and background objects of one sample, drawn from the ranges of the original."""
    rng = generator(seed, f"birds/{split}", index)

    def angle() -> float:
        return float(rng.uniform(0, 2 * np.pi))

    entry: Entry = {"class_idx": bird["class_idx"]}
    entry |= {"camera_distance": int(rng.integers(200, 401)), "camera_pitch": angle(), "camera_roll": angle()}
    entry |= {"light_distance": 300, "light_pitch": angle(), "light_roll": angle()}
    gone: set[str] = set()
    if split == "train" and rng.random() < 0.5:
        gone = set(rng.permutation(PARTS)[: rng.integers(len(PARTS) + 1)].tolist())
    for part in PARTS:
        for key, value in VARIANTS[part][bird["parts"][part]].items():
            entry[f"{part}_{key}"] = GONE if part in gone else value
    count = int(rng.integers(MOST_OBJECTS + 1))
    colors = list(COLORS)
    draws: dict[str, Callable[[], Any]] = {
        "objects": lambda: int(rng.integers(len(KINDS))),
        "radius": lambda: int(rng.integers(100, 201)),
        "color": lambda: colors[rng.integers(len(colors))],
    }
    for name in LISTED:
        draw = draws.get(name, (lambda: int(rng.integers(5, 21))) if name.startswith("scale") else angle)
        entry[f"bg_{name}"] = "".join(f"{draw()}," for _ in range(count))
    return entry


def _each(draw: Callable[[tuple[str, int, Entry]], int], jobs: list[Any], workers: int) -> Iterator[int]:
    if not workers:
        yield from map(draw, jobs)
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), _single_thread) as pool:
        yield from pool.map(draw, jobs, chunksize=8)


def _single_thread() -> None:
    cv2.setNumThreads(1)


def write_sample(folder: Path, size: int, job: tuple[str, int, Entry]) -> int:
    """Draw and write one sample, given as split, index and entry; returns the number of files."""
    split, index, entry = job
    scene, stem = Scene(entry, size), f"{entry['class_idx']}/{index:06d}"
    canvas = scene.draw()
    pictures = {f"{split}/{stem}.png": scene.finish(canvas), f"{split}_part_map/{stem}.png": scene.part_map(canvas)}
    if split == "test":
        scenes = f"test_interventions/{stem}"
        named = zip((intervention_name(i) for i in range(SUBSETS)), scene.subsets(), strict=True)
        pictures |= {f"{scenes}/{name}": picture for name, picture in named}
        pictures |= {f"{scenes}/background_interventions/{i}.png": p for i, p in enumerate(scene.removals())}
    _save(folder, pictures.items())
    return len(pictures)


def _save(folder: Path, pictures: Iterable[tuple[str, Picture]]) -> None:
    """Write RGBA files, as the original has them."""
    for name, picture in pictures:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        result, coded = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGRA))
        if not result:
            raise OSError(f"{path} cannot be coded as PNG")
        path.write_bytes(coded.tobytes())
