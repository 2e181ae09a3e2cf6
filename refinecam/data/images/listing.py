"""Which pictures a folder holds, and of which class each is."""

import csv
import re
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

from scipy.io import loadmat
from timm.data import ImageNetInfo

from refinecam.core.errors import InputError
from refinecam.data.pictures import EXTENSIONS, pictures_in

WNID = re.compile(r"n\d{8}")
NUMBER = re.compile(r"-?\d+(\.\d*)?")
SPLITS = ("test", "val", "validation")
"""Folders to take of a root that has splits, the first first."""
NUMBERED = "ILSVRC2012_validation_ground_truth.txt"
DEVKIT = "ILSVRC2012_devkit_t12/data"


@dataclass(frozen=True)
class Picture:
    """A file, its class, and its place among all files of the folder."""

    file: Path
    label: int
    index: int


class Listing(NamedTuple):
    """The pictures of a folder, sorted by name; the names of the classes, none where labels are numbers."""

    root: Path
    pictures: list[Picture]
    classes: tuple[str, ...]


def list_pictures(root: str | Path, labels: str | Path | None = None) -> Listing:
    """List the pictures of a folder in one of these layouts.

    - ``root/CLASS/...``, or the same below ``root/test`` or ``root/val``. Classes are numbered by name. Where all are
      ImageNet's (``n01440764``), in any number, they have its 1000 indices.
    - Pictures and a table: a CSV file with a line for each, file and label, or text with a file and a label a line.
      Labels are classes' names, ImageNet's names, or numbers from 0. The only CSV file in ``root`` needs no name.
    - ImageNet's flat validation folder and ``ILSVRC2012_validation_ground_truth.txt``, with ``meta.mat`` of the same
      devkit beside it; or any text that has a label for each picture, in the order of the names.

    Raises:
        InputError: if there is no picture, or a label cannot be had of each.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"root: there is no folder {root}; name one with a folder of pictures for each class")
    if labels is not None:
        return _of_table(root, Path(labels))
    table = _ground_truth_of(root)
    if table is not None:
        return _of_table(root, table)
    for folder in (*(root / split for split in SPLITS), root):
        if known := _class_folders(folder):
            break
    else:
        tables = sorted(root.glob("*.csv"))
        if len(tables) == 1:
            return _of_table(root, tables[0])
        raise InputError(
            f"root: {root} has no folders with pictures; expected {root}/CLASS/*.jpg, or a table of labels (labels)"
        )
    files = [(file, name) for name, of_class in known.items() for file in of_class]
    return _listing(folder, files, list(known), f"root: {folder}")


def choose(listing: Listing, count: int | None, stratified: bool, seed: int) -> list[Picture]:
    """So many pictures, the same for the same names on every machine, in the order of the names.

    Args:
        listing: of the folder.
        count: of pictures; None for all.
        stratified: as many of each class, as far as there are.
        seed: another one gives other pictures.

    Raises:
        InputError: if there are fewer.
    """
    pictures = listing.pictures
    if count is None:
        return pictures
    if count > len(pictures):
        raise InputError(f"subset: there are {len(pictures)} pictures, got {count}; null takes all")

    def draw(picture: Picture) -> int:
        name = picture.file.relative_to(listing.root).as_posix()
        return zlib.crc32(f"{seed}/{name}".encode(errors="surrogateescape"))

    order = sorted(pictures, key=lambda picture: (draw(picture), picture.index))
    if stratified:
        seen: Counter[int] = Counter()
        turn = {}
        for picture in order:
            turn[picture.index] = seen[picture.label]
            seen[picture.label] += 1
        order = sorted(order, key=lambda picture: turn[picture.index])
    return sorted(order[:count], key=lambda picture: picture.index)


def _class_folders(root: Path) -> dict[str, list[Path]]:
    """The pictures of each folder that has any."""
    folders = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    known = {folder.name: pictures_in(folder) for folder in folders if not folder.name.startswith(".")}
    full = {name: files for name, files in known.items() if files}
    empty = [name for name in known if name not in full]
    if empty and full and not all(WNID.fullmatch(name) for name in full):
        raise InputError(
            f"root: {root / empty[0]} has no pictures, and classes are numbered by folders; remove it, or add some"
        )
    return full


def _ground_truth_of(root: Path) -> Path | None:
    """ImageNet's own table of labels, where the pictures lie in the folder itself."""
    tables = [path for path in (root / NUMBERED, root / DEVKIT / NUMBERED) if path.is_file()]
    return tables[0] if tables and pictures_in(root, below=False) else None


def _of_table(root: Path, table: Path) -> Listing:
    if not table.is_file():
        raise InputError(f"labels: there is no file {table}; expected lines of a file and its label")
    try:
        text = table.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"labels: {table} cannot be read as text ({error})") from error
    rows = _cells(table, text)
    rows = [[cell.strip() for cell in row] for row in rows if any(cell.strip() for cell in row)]
    if rows and all(len(row) == 1 for row in rows) and table.suffix != ".csv":
        return _in_order(root, table, [row[0] for row in rows])
    if rows and Path(rows[0][0]).suffix.lower() not in EXTENSIONS:
        rows = rows[1:]  # the names of the columns
    if not rows or any(len(row) < 2 or not row[1] for row in rows):
        raise InputError(f"labels: {table} has not a file and a label on each line, as in cat.jpg,cat")
    files = [(root / row[0], row[1]) for row in rows]
    missing = [file for file, _ in files if not file.is_file()]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise InputError(f"labels: {table} names {missing[0]}{more}, which {'are' if more else 'is'} not there")
    return _listing(root, files, sorted({label for _, label in files}), f"labels: {table}", numbers=True)


def _cells(table: Path, text: str) -> list[list[str]]:
    """The lines' cells: of a CSV file between commas, semicolons or tabs, of other text between blanks."""
    lines = text.splitlines()
    if table.suffix != ".csv":
        return [line.split() for line in lines]
    delimiter = max(",;\t", key=lambda sign: lines[0].count(sign)) if lines else ","
    return list(csv.reader(lines, delimiter=delimiter))


def _in_order(root: Path, table: Path, labels: Sequence[str]) -> Listing:
    """Pictures in the order of their names with a label each."""
    files = pictures_in(root, below=False)
    if len(files) != len(labels):
        raise InputError(f"labels: {table} has {len(labels)} labels for {len(files)} pictures in {root}")
    if table.name == NUMBERED:
        wnids = _wnids_of_numbers(table.parent / "meta.mat")
        unknown = [label for label in labels if label not in wnids]
        if unknown:
            raise InputError(f"labels: {table} has {unknown[0]!r}, which is no number of meta.mat")
        labels = [wnids[label] for label in labels]
    return _listing(root, list(zip(files, labels, strict=True)), sorted(set(labels)), f"labels: {table}", numbers=True)


def _wnids_of_numbers(meta: Path) -> dict[str, str]:
    """ImageNet's own numbers of the classes, which are in no order of names."""
    try:
        synsets = loadmat(meta, squeeze_me=True)["synsets"]
    except (OSError, ValueError, KeyError, NotImplementedError) as error:
        raise InputError(
            f"labels: ImageNet's numbers mean something with {meta.name} alone, and {meta} cannot be read; copy it "
            "there from the devkit (ILSVRC2012_devkit_t12/data)"
        ) from error
    return {str(int(entry["ILSVRC2012_ID"])): str(entry["WNID"]) for entry in synsets if entry["num_children"] == 0}


def _listing(
    root: Path, files: Sequence[tuple[Path, str]], names: Sequence[str], argument: str, numbers: bool = False
) -> Listing:
    """Labels as numbers: ImageNet's where all names are, those of a table that has numbers, or the name's place."""
    if not files:
        raise InputError(f"root: there are no pictures in {root} (looked for {', '.join(sorted(EXTENSIONS))})")
    known = imagenet_classes()
    classes: tuple[str, ...] = tuple(names)
    if all(WNID.fullmatch(name) for name in names):
        strange = [name for name in names if name not in known]
        if strange:
            raise InputError(f"{argument} has {strange[0]}, which is none of ImageNet's 1000 classes; leave it out")
        labels = {name: list(known).index(name) for name in names}
        classes = tuple(known.values())
    elif numbers and all(NUMBER.fullmatch(name) for name in names):
        labels, classes = {name: int(float(name)) for name in names}, ()
        wrong = [name for name, number in labels.items() if number < 0 or number != float(name)]
        if wrong:
            raise InputError(f"{argument} has the label {wrong[0]}; expected classes' names, or numbers from 0")
    else:
        labels = {name: number for number, name in enumerate(names)}
        if len(names) == 1:
            raise InputError(f"{argument} has one class, {names[0]!r}; a classifier needs at least two")
    ordered = sorted(files, key=lambda entry: entry[0].as_posix())
    return Listing(root, [Picture(file, labels[name], i) for i, (file, name) in enumerate(ordered)], classes)


@cache
def imagenet_classes() -> dict[str, str]:
    """Short names of ImageNet's 1000 classes by their wnids, in the order of the networks' logits."""
    info = ImageNetInfo()
    return {wnid: info.label_name_to_description(wnid).partition(",")[0] for wnid in info.label_names()}
