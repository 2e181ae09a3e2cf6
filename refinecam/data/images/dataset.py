"""Pictures with their labels and, where there are any, masks."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from refinecam.core.errors import InputError
from refinecam.data.images.listing import Picture
from refinecam.data.pictures import EXTENSIONS, open_rgb, read_mask, size_of
from refinecam.data.transforms import JointTransform

RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
REMEDY = "remove or replace the file, or skip such files (on_error skip)"


class Pictures(Dataset):
    """Pictures as a network's evaluation transform makes them of the files, as timm's does, and masks with them.

    Args:
        pictures: files, labels and indices.
        transform: says size, colors and interpolation.
        root: folder of the pictures, which ``masks`` mirrors.
        masks: folder of ground truth: images of the same names, with any ending, white or above 0.5 on the object.
        crop: resize the shorter side and cut out the center; otherwise the whole picture is resized.
        on_error: a broken file ends the run, or is left out and named in the batch.
    """

    def __init__(
        self,
        pictures: Sequence[Picture],
        transform: JointTransform,
        root: Path,
        masks: Path | None = None,
        crop: bool = True,
        on_error: Literal["skip", "stop"] = "skip",
    ) -> None:
        self.pictures, self.transform, self.root = pictures, transform, root
        self.crop, self.on_error = crop, on_error
        self.masks = None if masks is None else find_masks(pictures, root, masks)

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, place: int) -> dict[str, Any]:
        picture = self.pictures[place]
        name = _shown(picture.file.relative_to(self.root).as_posix())
        try:
            image = open_rgb(picture.file, "root", REMEDY)
            sample: dict[str, Any] = {"image": image_tensor(image, self.transform, self.crop)}
            if self.masks is not None:
                mask = Image.fromarray(read_mask(self.masks[place], "masks", REMEDY).astype(np.uint8) * 255)
                shaped = placed(mask, self.transform, self.crop, Image.Resampling.NEAREST)
                sample["mask"] = torch.from_numpy(np.array(shaped)).ge(128).float()[None]
        except InputError as error:
            if self.on_error == "stop":
                raise
            return {"skipped": {"index": picture.index, "file": name, "reason": str(error)}}
        return {**sample, "label": picture.label, "index": picture.index, "file": name}


def collate(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A batch of the samples that could be read, and ``skipped``, the others; without ``image`` if there is none."""
    whole = [sample for sample in samples if "skipped" not in sample]
    return {**(default_collate(whole) if whole else {}), "skipped": [s["skipped"] for s in samples if "skipped" in s]}


def image_tensor(image: Image.Image, transform: JointTransform, crop: bool) -> Tensor:
    """A normalized tensor (3, S, S) of a Pillow image in RGB."""
    shaped = placed(image, transform, crop, RESAMPLING[transform.interpolation])
    colors = torch.from_numpy(np.array(shaped)).permute(2, 0, 1)
    return transform.normalize({"image": colors})["image"]


def placed(image: Image.Image, transform: JointTransform, crop: bool, resampling: Image.Resampling) -> Image.Image:
    """The image at the network's size: its center, or all of it."""
    side = transform.image_size
    if not crop:
        return image.resize((side, side), resampling)
    shorter = min(image.size)
    width, height = (
        transform.canvas if length == shorter else int(transform.canvas * length / shorter) for length in image.size
    )
    left, top = (round((length - side) / 2) for length in (width, height))
    # In two steps, as torchvision: a box in the first would resample at other places.
    return image.resize((width, height), resampling).crop((left, top, left + side, top + side))


def cut_of(size: tuple[int, int], transform: JointTransform) -> tuple[int, int, int, int]:
    """The part of a picture (width, height) that the center crop shows: left, top, right and bottom, in its pixels."""
    scale = min(size) / transform.canvas
    half = min(transform.image_size * scale, *size) / 2
    left, top = (round(length / 2 - half) for length in size)
    return left, top, left + round(2 * half), top + round(2 * half)


def find_masks(pictures: Sequence[Picture], root: Path, masks: Path) -> list[Path]:
    """The mask of each picture.

    Raises:
        InputError: naming the first that is not there, or has another size than its picture.
    """
    if not masks.is_dir():
        raise InputError(f"masks: there is no folder {masks}")
    known = {path.with_suffix(""): path for path in masks.rglob("*") if path.suffix.lower() in EXTENSIONS}
    wanted = [masks / picture.file.relative_to(root).with_suffix("") for picture in pictures]
    missing = [path for path in wanted if path not in known]
    if missing:
        raise InputError(
            f"masks: {len(missing)} of {len(wanted)} pictures have none, the first is {missing[0]}.png; masks have "
            "the names and folders of the pictures"
        )
    found = [known[path] for path in wanted]
    for picture, mask in zip(pictures, found, strict=True):
        own, other = size_of(picture.file), size_of(mask)
        if own and other and own != other:
            raise InputError(f"masks: {mask} has {other[0]}x{other[1]} pixels, its picture {own[0]}x{own[1]}")
    return found


def _shown(name: str) -> str:
    """A file's name as text, whatever bytes it has."""
    return os.fsencode(name).decode(errors="replace").replace("\n", "?")
