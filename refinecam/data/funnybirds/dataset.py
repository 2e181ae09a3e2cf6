"""FunnyBirds in its official layout: images, part maps, and the same scenes without some parts or objects.

Hesse et al., "FunnyBirds: A Synthetic Vision Dataset for a Part-Based Analysis of Explainable AI Methods", ICCV 2023.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from refinecam.core.errors import InputError, check_choice
from refinecam.data.funnybirds.parts import PARTS, SUBSETS, intervention_name
from refinecam.data.pictures import read_rgb
from refinecam.data.transforms import JointTransform

OFFICIAL_SPLITS = ("train", "test")
AGAIN = "repair it, or fetch or draw the data set again"


class FunnyBirds(Dataset):
    """One official split.

    A sample has ``image``, float, shape (3, S, S); ``label``; ``index``, its place in the split's list, which is also
    its files' name; and where asked for

    - ``part_map``: the official colors, 0 to 255, float, shape (3, S, S); see :mod:`refinecam.data.funnybirds.parts`.
    - ``subsets``: the scene with each set of parts, shape (32, 3, S, S); set s has part p where bit p of s is 1.
    - ``removals``: the scene without each of its K background objects in turn, shape (K, 3, S, S); K may be 0.

    Batches are made by :func:`collate`.

    Args:
        folder: of the data set; it has ``classes.json``.
        split: ``"train"`` or ``"test"``.
        transform: of images and part maps. It must not crop: parts may lie at the border.
        part_maps: add the part maps.
        interventions: add ``subsets`` and ``removals``, which officially the test split alone has.
        keep: places of the samples to use; None for all.

    Raises:
        InputError: if ``transform`` crops, the folder has another layout, a list is malformed or a file is missing.
    """

    def __init__(
        self,
        folder: str | Path,
        split: str,
        transform: JointTransform,
        part_maps: bool = False,
        interventions: bool = False,
        keep: Sequence[int] | None = None,
    ) -> None:
        check_choice(OFFICIAL_SPLITS, split=split)
        if transform.canvas != transform.image_size:
            raise InputError(
                f"transform: a canvas of {transform.canvas} px is cropped to {transform.image_size}, which may cut off "
                "parts of a bird; let the two be equal"
            )
        self.folder, self.split, self.transform = Path(folder), split, transform
        self.part_maps, self.interventions = part_maps, interventions
        self.classes = read_classes(folder)
        needed = [split, *([f"{split}_part_map"] * part_maps), *([f"{split}_interventions"] * interventions)]
        for name in needed:
            _check_entry(self.folder, name)
        entries = read_entries(folder, split, len(self.classes))
        self.labels: list[int] = [entry["class_idx"] for entry in entries]
        self.positions = list(range(len(entries)) if keep is None else keep)
        for position in self.positions:
            if not 0 <= position < len(entries):
                raise InputError(f"keep: expected places from 0 to {len(entries) - 1}, got {position}")
        self.objects = {i: _count_objects(entries[i], i, self._list) for i in self.positions} if interventions else {}
        self._check_files()

    @property
    def _list(self) -> Path:
        return self.folder / f"dataset_{self.split}.json"

    def _check_files(self) -> None:
        """Find what is missing before hours of training or scoring were spent."""
        wanted = [path for position in self.positions for path in self._files(position)]
        missing = [path for path in wanted if not os.path.exists(path)]
        if missing:
            raise InputError(
                f"folder: {missing[0]} is missing ({len(missing)} of the {len(wanted)} files that {self._list} asks "
                "for are); fetch or draw the data set again"
            )

    def _files(self, position: int) -> list[str]:
        """Image; part map; the sets of parts; the removed objects. Each where it is asked for."""
        stem = f"{self.labels[position]}/{position:06d}"
        files = [f"{self.folder}/{self.split}/{stem}.png"]
        if self.part_maps:
            files.append(f"{self.folder}/{self.split}_part_map/{stem}.png")
        if self.interventions:
            scenes = f"{self.folder}/{self.split}_interventions/{stem}"
            files += [f"{scenes}/{intervention_name(subset)}" for subset in range(SUBSETS)]
            files += [f"{scenes}/background_interventions/{i}.png" for i in range(self.objects[position])]
        return files

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, item: int) -> dict[str, Any]:
        """Read and transform one sample.

        Raises:
            InputError: if a file is no whole image, or not as large as the others of its sample.
        """
        position = self.positions[item]
        first, *others = self._files(position)
        image = read_square(first)
        read = [read_square(path, image.shape) for path in others]
        part_map = read.pop(0) if self.part_maps else image[..., :1]
        result = self.transform(image, part_map)
        sample: dict[str, Any] = {"image": result["image"], "label": self.labels[position], "index": position}
        if self.part_maps:
            sample["part_map"] = result["mask"]
        if self.interventions:
            scenes = [self.transform(scene, scene[..., :1])["image"] for scene in read]
            sample["subsets"] = torch.stack(scenes[:SUBSETS])
            removed = scenes[SUBSETS:]
            sample["removals"] = (
                torch.stack(removed) if removed else result["image"].new_empty(0, *result["image"].shape)
            )
        return sample


def collate(samples: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
    """Make a batch of N samples, which may have different numbers of background objects.

    Returns:
        Everything stacked, except ``removals``: these follow one another, shape (sum of K, 3, S, S), and ``objects``,
        int64, shape (N,), has each sample's K.
    """
    batch = default_collate([{key: value for key, value in s.items() if key != "removals"} for s in samples])
    if "removals" in samples[0]:
        batch["removals"] = torch.cat([s["removals"] for s in samples])
        batch["objects"] = torch.tensor([len(s["removals"]) for s in samples])
    return batch


def read_classes(folder: str | Path) -> list[dict[str, Any]]:
    """The classes: ``{"class_idx": place, "parts": {part: variant}}`` for each.

    Raises:
        InputError: if there is no such folder, or its ``classes.json`` is missing or malformed.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(
            f"folder: there is no folder {folder}; download true fetches FunnyBirds (1.6 GB) into it, "
            "python -m refinecam.data.funnybirds data/birds draws a stand-in of our own"
        )
    classes = _read_list(folder, "classes.json")
    for position, entry in enumerate(classes):
        if entry.get("class_idx") != position or not isinstance(entry.get("parts"), dict):
            raise InputError(
                f"folder: entry {position} of {folder / 'classes.json'} is not of the form "
                f'{{"class_idx": {position}, "parts": {{...}}}}; {AGAIN}'
            )
        if set(entry["parts"]) != set(PARTS):
            raise InputError(
                f"folder: class {position} of {folder / 'classes.json'} has parts {', '.join(sorted(entry['parts']))} "
                f"instead of {', '.join(PARTS)}; {AGAIN}"
            )
    return classes


def read_entries(folder: str | Path, split: str, class_count: int) -> list[dict[str, Any]]:
    """The list of a split: ``class_idx`` and the scene's settings of each sample.

    Raises:
        InputError: if ``dataset_<split>.json`` is missing or malformed, or has other classes than 0 to C - 1.
    """
    name = f"dataset_{split}.json"
    entries = _read_list(Path(folder), name)
    for position, entry in enumerate(entries):
        label = entry.get("class_idx")
        if type(label) is not int or not 0 <= label < class_count:
            raise InputError(
                f"folder: entry {position} of {Path(folder) / name} has class_idx {label!r}, but classes.json has "
                f"classes 0 to {class_count - 1}; {AGAIN}"
            )
    return entries


def read_square(path: str | Path, shape: tuple[int, ...] | None = None) -> NDArray[np.uint8]:
    """Read a square picture as RGB, uint8, shape (S, S, 3), without its alpha channel.

    Raises:
        InputError: if the file is not a whole square image, or not of this shape.
    """
    result = read_rgb(path, "folder", AGAIN)
    height, width, _ = shape or (result.shape[1], result.shape[1], 3)
    if result.shape[:2] != (height, width):
        expected = f"{width} x {height}, as its image has" if shape else "a square image"
        raise InputError(f"folder: {path} has {result.shape[1]} x {result.shape[0]} px; expected {expected}; {AGAIN}")
    return result


def _read_list(folder: Path, name: str) -> list[dict[str, Any]]:
    """A JSON file that is a list of objects, with at least one."""
    path = folder / name
    _check_entry(folder, name)
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"folder: {path} cannot be read ({error}); {AGAIN}") from error
    if not isinstance(result, list) or not result or not all(isinstance(entry, dict) for entry in result):
        raise InputError(f"folder: {path} is not a list of objects, with at least one; {AGAIN}")
    return result


def _check_entry(folder: Path, name: str) -> None:
    """Refuse a folder without this file or folder; an archive unpacked one level too deep is the usual reason."""
    if not (folder / name).exists():
        inner = sorted(path.parent for path in folder.glob("*/classes.json"))
        remedy = f"name {inner[0]}" if inner else "name a folder in FunnyBirds' layout, or fetch or draw it again"
        raise InputError(f"folder: {folder} has no {name}; {remedy}")


def _count_objects(entry: dict[str, Any], position: int, path: Path) -> int:
    listed = entry.get("bg_objects")
    if not isinstance(listed, str):
        raise InputError(f"folder: entry {position} of {path} has no bg_objects, a text such as '3,0,1,'; {AGAIN}")
    return sum(1 for kind in listed.split(",") if kind.strip())
