"""How often the classifier is right, for which images, and whether it looks at the right thing."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from math import nan, sqrt
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

CONTROL, FACTOR = "control: ", "factor: "
"""Prefixes of columns in the table of predictions: the class predicted for a control image, a factor's values."""
NEIGHBORS = 25
TOLERANCE = 0.02


class AccuracyRow(NamedTuple):
    """Accuracy over a group of images.

    Attributes:
        style: of the shapes, where there are several; otherwise empty.
        group: of rows.
        name: of the row in its group.
        images: how many; 0 where there were too few to tell.
        accuracy: NaN where there are 0 images.
        low: least accuracy that is expected; None where nothing particular is.
        high: greatest, likewise.
    """

    style: str
    group: str
    name: str
    images: int
    accuracy: float
    low: float | None
    high: float | None

    @property
    def as_expected(self) -> bool | None:
        """Whether it lies between the two."""
        return None if self.low is None or self.high is None else self.low <= self.accuracy <= self.high


def prediction_rows(
    batch: Mapping[str, Any],
    predicted: Tensor,
    controls: Mapping[str, Tensor],
    bands: Sequence[tuple[float, float]],
    styles: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """One row an image: index, label, predicted class, size band, predictions for controls, factors.

    Args:
        batch: with ``index`` and ``label``, and where the data have them ``band`` and ``factors``.
        predicted: classes predicted for the images, shape (N,).
        controls: classes predicted for each control, by name.
        bands: the (low, high) that ``band`` counts.
        styles: the names that ``style`` counts.
    """
    columns = {"index": batch["index"].tolist(), "label": batch["label"].tolist(), "predicted": predicted.tolist()}
    if bands and "band" in batch:
        columns["band"] = ["{:g}-{:g} px".format(*bands[band]) for band in batch["band"].tolist()]
    if styles and "style" in batch:
        columns["style"] = [styles[style] for style in batch["style"].tolist()]
    columns |= {f"{CONTROL}{name}": classes.tolist() for name, classes in controls.items()}
    columns |= {f"{FACTOR}{name}": values.tolist() for name, values in batch.get("factors", {}).items()}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def accuracy_rows(
    predictions: pd.DataFrame,
    classes: Sequence[str],
    expected: Mapping[str, str],
    least: tuple[float, float] | None = None,
) -> list[AccuracyRow]:
    """Accuracy over all images, by size band and by class, and every check of what the classifier looks at.

    Images of several styles have such rows for each style.

    A control is as expected if its accuracy is within three standard errors of chance, or within two points of the
    images' own accuracy. A factor must not tell the label: for the second half of the images it is told from the 25
    images of the first half that have the nearest values, and that may be right three standard errors more often than
    chance at most. Where the half has fewer images, nothing is told: the row has 0 images and its accuracy is NaN, and
    nothing is expected of a control, either. ``least`` is expected only of so many images that three may be wrong: of
    fewer a single one would decide.

    Args:
        predictions: the rows of :func:`prediction_rows`.
        classes: names of the classes.
        expected: for each control ``"chance"`` or ``"same"``.
        least: accuracy to expect of all images, and of the smallest size band, where there are several.
    """
    if "style" in predictions and predictions["style"].nunique() > 1:
        return [
            row._replace(style=str(style))
            for style, of_style in predictions.groupby("style", sort=False)
            for row in accuracy_rows(of_style.reset_index(drop=True), classes, expected, least)
        ]
    label = predictions["label"].to_numpy()
    right = label == predictions["predicted"].to_numpy()
    half = len(label) // 2
    judged = half >= NEIGHBORS
    of_all, of_smallest = least or (None, None)
    rows = [_row("all", "", right, _at_least(of_all, len(right)))]
    if "band" in predictions:
        bands = sorted(predictions["band"].unique(), key=_diameters, reverse=True)
        for band in bands:
            of_band = right[predictions["band"] == band]
            share = of_smallest if band == bands[-1] != bands[0] else None
            rows.append(_row("size", band, of_band, _at_least(share, len(of_band))))
    rows += [_row("class", name, right[label == i]) for i, name in enumerate(classes) if (label == i).any()]
    chance = 1 / len(classes)
    limits = {
        "chance": _around(chance, _three_errors(chance, len(label))),
        "same": _around(float(right.mean()), TOLERANCE),
    }
    for column in map(str, predictions):
        values = predictions[column]
        if column.startswith(CONTROL):
            name = column.removeprefix(CONTROL)
            of_control = limits.get(expected.get(name, "")) if judged else None
            rows.append(_row("control", name, label == values.to_numpy(), of_control))
        elif column.startswith(FACTOR):
            name = column.removeprefix(FACTOR)
            if not judged:
                rows.append(AccuracyRow("", "told from", name, 0, nan, None, None))
                continue
            told = nearest_neighbors(np.array(values.tolist()), label, half) == label[half:]
            rows.append(_row("told from", name, told, (0, chance + _three_errors(chance, len(told)))))
    return rows


def nearest_neighbors(values: NDArray[np.float64], label: NDArray[np.int64], known: int) -> NDArray[np.int64]:
    """Label of the majority of an image's nearest neighbors among the first ``known`` images.

    Args:
        values: shape (N, K); each of the K columns is scaled to standard deviation 1.
        label: shape (N,).
        known: images whose labels are used.

    Returns:
        Labels told for the other images, shape (N - known,).
    """
    values = values / np.maximum(values.std(0), 1e-12)
    told = []
    for value in values[known:]:
        distance = ((values[:known] - value) ** 2).sum(1)
        nearest = np.argpartition(distance, NEIGHBORS - 1)[:NEIGHBORS]
        told.append(np.bincount(label[nearest]).argmax())
    return np.array(told, np.int64)


def accuracy_data(rows: Sequence[AccuracyRow]) -> pd.DataFrame:
    """The rows as a table, with a column that says whether they are as expected."""
    return pd.DataFrame([{**row._asdict(), "as_expected": row.as_expected} for row in rows])


def accuracy_markdown(rows: Sequence[AccuracyRow]) -> str:
    """The rows for people."""
    lines = []
    for style, of_style in groupby(rows, lambda row: row.style):
        lines += [*([f"{style} shapes:".capitalize(), ""] if style else []), *_accuracy_table(list(of_style)), ""]
    if rows[0].images < 2 * NEIGHBORS and any(row.group == "control" for row in rows):
        lines += [f"Fewer than {2 * NEIGHBORS} images are too few to say whether a control is as expected."]
    return "\n".join(lines).rstrip() + "\n"


def _accuracy_table(rows: Sequence[AccuracyRow]) -> list[str]:
    lines = ["| | | images | accuracy | expected | |", "|---|---|---|---|---|---|"]
    for row in rows:
        verdict = {None: "", True: "yes", False: "**no**"}[row.as_expected]
        expected = "" if row.low is None else f"{row.low:.1%} to {row.high:.1%}"
        accuracy = f"{row.accuracy:.1%}" if row.images else f"needs {2 * NEIGHBORS} images"
        lines.append(f"| {row.group} | {row.name} | {row.images} | {accuracy} | {expected} | {verdict} |")
    return lines


def _row(group: str, name: str, right: NDArray[np.bool_], limits: tuple[float, float] | None = None) -> AccuracyRow:
    return AccuracyRow("", group, name, len(right), float(right.mean()), *(limits or (None, None)))


def _at_least(share: float | None, count: int) -> tuple[float, float] | None:
    return (share, 1.0) if share is not None and round(count * (1 - share), 6) >= 3 else None


def _diameters(band: str) -> list[float]:
    return [float(number) for number in band.removesuffix(" px").split("-")]


def _around(value: float, distance: float) -> tuple[float, float]:
    return max(0.0, value - distance), min(1.0, value + distance)


def _three_errors(chance: float, count: int) -> float:
    return 3 * sqrt(chance * (1 - chance) / count)
