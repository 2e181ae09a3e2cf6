"""The folder of an evaluation: rows are written batch by batch, found again, and joined into tables."""

import json
import os
import shutil
import socket
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout

from refinecam.core.errors import InputError
from refinecam.core.files import write_file
from refinecam.evaluation.identity import changes
from refinecam.evaluation.table import KEYS

MANIFEST = "evaluation.json"
SOURCE = "_source"
"""While rows are joined: the number of the file that they come from; later the place of their method."""


class Results:
    """Where an evaluation writes and where its report reads.

    While it runs, each process writes a small file for each batch into ``parts/TABLE/``: what was computed survives
    whatever happens later. ``merge`` then puts everything in place: ``TABLE.parquet``, ``evaluation.json``, which says
    what was evaluated, and ``maps/``, the figure's images and maps. Until then an earlier evaluation's files stay.
    The same evaluation goes on with what is there, finished or not.

    Args:
        folder: made by :meth:`start`.

    Raises:
        InputError: if no folder can have this name.
    """

    def __init__(self, folder: str | Path) -> None:
        if "\0" in str(folder):
            raise InputError(f"output: {str(folder)!r} is no name of a folder; name another")
        self.folder = Path(folder)
        self.parts = self.folder / "parts"
        self.run = 0
        self.lock: FileLock | None = None

    def start(self, about: Mapping[str, Any], overwrite: bool = False) -> None:
        """Begin an evaluation, or go on with it, as the only one that writes into this folder.

        Args:
            about: what the report needs to know, and what makes the numbers: ``identity``, and ``methods`` and
                ``scores``, to which some may have been added.
            overwrite: begin anew; a finished evaluation stays until this one is.

        Raises:
            InputError: if another evaluation is in the folder, or at work there.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / ".lock")
        try:
            lock.acquire(blocking=False)
        except Timeout as error:
            owner = (read_manifest(self.parts) or {}).get("owner", "another process")
            raise InputError(
                f"output: {self.folder} is being written by {owner}; wait for it, or name another folder"
            ) from error
        self.lock = lock
        earlier = read_manifest(self.parts) or read_manifest(self.folder)
        changed = changes(earlier, about) if earlier is not None and not overwrite else []
        if changed:
            raise InputError(
                f"output: {self.folder} has another evaluation: {'; '.join(changed[:3])}. Name another folder, or "
                "replace it: overwrite true"
            )
        if overwrite or earlier is None:
            shutil.rmtree(self.parts, ignore_errors=True)
            earlier = {"run": -1, "fresh": overwrite}
        (self.parts / "maps").mkdir(parents=True, exist_ok=True)
        owner = f"process {os.getpid()} on {socket.gethostname()}"
        own = {"run": earlier.get("run", 0) + 1, "fresh": earlier.get("fresh", False), "owner": owner}
        _describe(self.parts, {**about, **own})

    def close(self) -> None:
        """Let others into the folder."""
        if self.lock is not None:
            self.lock.release()

    @property
    def about(self) -> dict[str, Any]:
        """What was evaluated.

        Raises:
            InputError: if the folder has no evaluation.
        """
        about = read_manifest(self.folder)
        if about is None:
            raise InputError(f"folder: {self.folder} has no {MANIFEST}; name the output of an evaluation")
        return about

    def earlier(self) -> "Earlier":
        """The rows that are there already; to be called once :meth:`start` has been, by the first process.

        Raises:
            InputError: if this process does not see the folder of the first one, on another machine.
        """
        running = read_manifest(self.parts)
        if running is None:
            raise InputError(
                f"output: what the first process writes into {self.folder} is not seen on {socket.gethostname()}; use "
                "a folder that all machines share"
            )
        self.run = int(running.get("run", 0))
        return Earlier(self._rows("per_image", running), self._rows("predictions", running))

    def add(self, table: str, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the rows of one batch; ``name`` is the batch's own among all processes of this run."""
        if rows:
            folder = self.parts / table
            folder.mkdir(exist_ok=True)
            path = folder / f"{self.run:04d}-{name}.parquet"
            write_file(path, partial(pd.DataFrame(rows).to_parquet, index=False))

    def keep(self, index: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep one image with its maps for the figure."""
        path = self.parts / "maps" / f"{index:09d}.npz"
        write_file(path, lambda beside: np.savez_compressed(beside, **arrays))  # type: ignore[arg-type]

    def has_maps(self, index: int, titles: Sequence[str]) -> bool:
        """Whether an image is kept with the maps of these methods."""
        fresh = (read_manifest(self.parts) or {}).get("fresh")
        for folder in (self.parts, *([] if fresh else [self.folder])):
            path = folder / "maps" / f"{index:09d}.npz"
            if path.is_file():
                with np.load(path) as arrays:
                    return all(f"map: {title}" in arrays for title in titles)
        return False

    def kept(self) -> list[dict[str, np.ndarray]]:
        """The kept images, sorted by index."""
        return [dict(np.load(path)) for path in sorted((self.folder / "maps").glob("[!.]*.npz"))]

    def merge(self, kept: int) -> None:
        """Join each table's parts into one file, sorted by image, in the order of the methods.

        Args:
            kept: of all processes' images for the figure, how many stay.

        Raises:
            InputError: if a row is missing.
        """
        running = read_manifest(self.parts) or {}
        finished = {} if running.get("fresh") else read_manifest(self.folder) or {}
        methods = {tuple(method): number for number, method in enumerate(running["methods"])}
        scores = [score["name"] for score in running["scores"]]
        names = {path.name for path in self.parts.iterdir() if path.is_dir()} - {"maps"} | {*finished.get("tables", [])}
        tables = {name: _ordered(self._rows(name, running), methods, scores) for name in sorted(names)}
        if "predictions" not in tables:
            reasons = tables["skipped"]["reason"].tolist() if "skipped" in tables else []
            raise InputError(reasons[0] if reasons else "data: there was no image to evaluate")
        if "skipped" in tables:  # those that can be read now are in it no more
            read = tables["skipped"]["index"].isin(tables["predictions"]["index"])
            tables["skipped"] = tables["skipped"][~read].reset_index(drop=True)
        tables = {name: table for name, table in tables.items() if len(table)}
        if "per_image" in tables:
            tables["per_image"] = _labeled(tables["per_image"], tables["predictions"], running.get("columns", {}))
        images, rows = len(tables.get("predictions", ())), len(tables.get("per_image", ()))
        if rows != images * len(methods):
            raise InputError(
                f"output: {self.parts} has {rows} rows of {images} images and {len(methods)} methods; run the same "
                "again over all images, which adds the missing ones"
            )
        for name, table in tables.items():
            write_file(self.folder / f"{name}.parquet", partial(table.to_parquet, index=False))
        for name in {*(read_manifest(self.folder) or {}).get("tables", [])} - {*tables}:
            (self.folder / f"{name}.parquet").unlink(missing_ok=True)
        self._merge_maps(kept, bool(finished))
        about = {name: value for name, value in running.items() if name not in ("owner", "fresh")}
        _describe(self.folder, {**about, "tables": sorted(tables)})
        shutil.rmtree(self.parts)

    def tables(self) -> dict[str, pd.DataFrame]:
        """Every table by its name.

        Raises:
            InputError: if one is missing.
        """
        try:
            return {name: pd.read_parquet(self.folder / f"{name}.parquet") for name in self.about["tables"]}
        except FileNotFoundError as error:
            raise InputError(f"folder: {error.filename} is missing; evaluate again") from error

    def _merge_maps(self, kept: int, earlier: bool) -> None:
        folder = self.folder / "maps"
        folder.mkdir(exist_ok=True)
        for path in [] if earlier else [*folder.glob("[!.]*.npz")]:
            path.unlink()
        for path in (self.parts / "maps").glob("[!.]*.npz"):
            os.replace(path, folder / path.name)
        for path in sorted(folder.glob("[!.]*.npz"))[kept:]:
            path.unlink()

    def _rows(self, table: str, running: Mapping[str, Any]) -> pd.DataFrame:
        """All rows of a table, finished ones first, then those of each run; of several of one map the last counts."""
        whole = [] if running.get("fresh") or not read_manifest(self.folder) else [self.folder / f"{table}.parquet"]
        frames = []
        for path in (*whole, *sorted((self.parts / table).glob("[!.]*.parquet"))):
            try:
                frames += [pd.read_parquet(path)] if path.is_file() else []
            except (OSError, ValueError) as error:
                raise InputError(f"output: {path} cannot be read ({error}); delete it, and evaluate again") from error
        if not frames:
            return pd.DataFrame({"index": pd.Series(dtype="int64"), SOURCE: pd.Series(dtype="int64")})
        joined = pd.concat([frame.assign(**{SOURCE: n}) for n, frame in enumerate(frames)], ignore_index=True)
        keys = ["index", *(key for key in KEYS if key in joined)]
        joined = joined.drop_duplicates(keys, keep="last").reset_index(drop=True)
        joined.attrs["columns"] = {number: set(frame) for number, frame in enumerate(frames)}
        return joined


class Earlier:
    """Rows of earlier runs, by image and method.

    Args:
        per_image: rows of images and methods, with the file that each comes from.
        predictions: rows of images.
    """

    def __init__(self, per_image: pd.DataFrame, predictions: pd.DataFrame) -> None:
        self.table = per_image
        self.columns: Mapping[int, set[str]] = per_image.attrs.get("columns", {})
        self.predicted = {*predictions["index"].tolist()}
        named = [per_image[key] for key in ("index", *KEYS)] if len(per_image) else []
        self.places = {key: place for place, key in enumerate(zip(*named, strict=True))}

    def row(self, index: int, method: Sequence[str], scores: Sequence[str]) -> dict[str, Any] | None:
        """The row of an image and a method, if it has all of the scores."""
        place = self.places.get((index, *method))
        if place is None:
            return None
        row = self.table.iloc[place]
        columns = self.columns[int(row[SOURCE])]
        return {name: row[name] for name in columns} if {*scores} <= columns else None


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """What a folder says of its evaluation; None if there is none."""
    path = folder / MANIFEST
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"folder: {path} cannot be read ({error}); evaluate again") from error


def _describe(folder: Path, about: Mapping[str, Any]) -> None:
    write_file(folder / MANIFEST, lambda path: path.write_text(json.dumps(about, indent=1), encoding="utf-8"))


def _labeled(table: pd.DataFrame, predictions: pd.DataFrame, columns: Mapping[str, str]) -> pd.DataFrame:
    """The table with what it is of in its rows, so that those of several evaluations stack."""
    if "file" in predictions:
        files = predictions.set_index("index")["file"]
        columns = {**columns, "file": table["index"].map(files)}
    return table[[name for name in table if name not in columns]].assign(**columns)


def _ordered(table: pd.DataFrame, methods: Mapping[tuple, int], scores: Sequence[str]) -> pd.DataFrame:
    """Rows by image and by the order of the methods, the scores' columns at the end."""
    order = ["index"]
    if all(key in table for key in KEYS):
        places = [methods.get(key, -1) for key in zip(*(table[key] for key in KEYS), strict=True)]
        table = table.assign(**{SOURCE: places})
        table, order = table[table[SOURCE] >= 0], ["index", SOURCE]
    table = table.sort_values(order, kind="stable", ignore_index=True)
    columns = [name for name in table if name not in (*scores, SOURCE)]
    table = table[[*columns, *(name for name in scores if name in table)]]
    table.attrs = {}  # they would be in the file
    return table
