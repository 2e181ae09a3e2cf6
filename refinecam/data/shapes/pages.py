"""Backgrounds from a folder of images, split by page so that no picture is in two splits."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from refinecam.core.errors import InputError
from refinecam.data.pictures import pictures_in, read_rgb

SPLITS = ("train", "val", "test")
TILE_SUFFIX = re.compile(r"_\d{1,5}_\d{1,5}$")  # offsets in pixels; dates and times are longer


def page_of(path: Path) -> str:
    """The page that a tile was cut from: ``book1_s2_768_256.jpg`` is a tile of ``book1_s2``.

    >>> page_of(Path("train/book1_s2_768_256.jpg")), page_of(Path("street.png"))
    ('book1_s2', 'street')
    """
    return TILE_SUFFIX.sub("", path.stem)


def read_splits(folder: str | Path) -> dict[str, list[NDArray[np.uint8]]]:
    """Read every image below ``folder`` and split them by page, about 70% / 15% / 15%.

    Which page goes where depends on the pages' names alone, so that no other setting can move a page from training into
    the test. Pages that share a picture, byte for byte after decoding, are treated as one page, and each picture is
    used once, so that no picture can be in two splits.

    Args:
        folder: searched recursively; its subfolders have no meaning.

    Returns:
        Pictures of ``"train"``, ``"val"`` and ``"test"``, uint8 RGB.

    Raises:
        InputError: if the folder is missing, has fewer than three different pages or an unreadable image.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"backgrounds: there is no folder {folder}; name a folder of images")
    files = pictures_in(folder)
    pictures: dict[str, NDArray[np.uint8]] = {}
    pages_of: dict[str, set[str]] = defaultdict(set)
    for path in files:
        image = read_rgb(path, "backgrounds", "repair or remove the file")
        digest = hashlib.sha256(str(image.shape).encode() + image.tobytes()).hexdigest()
        pictures.setdefault(digest, image)
        pages_of[digest].add(page_of(path))
    groups = _merge(pages_of.values())
    if len(groups) < 3:
        raise InputError(
            f"backgrounds: {folder} has {len(files)} images of {len(groups)} different pages; at least 3 pages are "
            "needed, one each for training, validation and test (PAGE_X_Y.jpg is a tile of PAGE)"
        )
    groups.sort(key=lambda pages: hashlib.sha256(pages[0].encode()).digest())
    held_out = max(1, round(0.15 * len(groups)))
    split_of = {}
    for rank, pages in enumerate(groups):
        split = "test" if rank < held_out else "val" if rank < 2 * held_out else "train"
        split_of.update(dict.fromkeys(pages, split))
    splits: dict[str, list[NDArray[np.uint8]]] = {split: [] for split in SPLITS}
    for digest, image in pictures.items():
        (split,) = {split_of[page] for page in pages_of[digest]}  # fails if a picture were in two splits
        splits[split].append(image)
    return splits


def _merge(page_sets: Iterable[set[str]]) -> list[list[str]]:
    """Groups of pages connected by a common picture, sorted."""
    groups: list[set[str]] = []
    for pages in page_sets:
        touching = [group for group in groups if group & pages]
        groups = [group for group in groups if not group & pages]
        groups.append(pages.union(*touching))
    return sorted(sorted(group) for group in groups)
