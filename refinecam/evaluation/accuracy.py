"""How often the classifier is right, for which images, and whether it looks at the right thing."""

from collections.abc import Mapping, Sequence
from math import nan, sqrt
from typing import Any

import numpy as np
import pandas as pd
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from refinecam.evaluation.table import escaped

CONTROL, FACTOR = "control: ", "factor: "
"""Prefixes of columns in the table of predictions: the class predicted for a control image, a factor's values."""
NEIGHBORS = 25
TOLERANCE = 0.02
MOST_CLASSES = 50
"""Of more classes text and TensorBoard have no lines; the table has."""
COLUMNS = ("style", "group", "name", "images", "accuracy", "low", "high", "as_expected")


def prediction_rows(
    batch: Mapping[str, Any],
    predicted: Tensor,
    controls: Mapping[str, Tensor],
    described: Mapping[str, Sequence[Any]],
) -> list[dict[str, Any]]:
    """One row an image: index, label, predicted class, what the data say of it, predictions for controls, factors.

    Args:
        batch: with ``index`` and ``label``, and where the data have them ``factors``.
        predicted: classes predicted for the images, shape (N,).
        controls: classes predicted for each control, by name.
        described: see :meth:`~refinecam.data.base.DataModule.describe`.
    """
    columns = {"index": batch["index"].tolist(), "label": batch["label"].tolist(), "predicted": predicted.tolist()}
    columns |= {name: list(values) for name, values in described.items()}
    columns |= {f"{CONTROL}{name}": classes.tolist() for name, classes in controls.items()}
    columns |= {f"{FACTOR}{name}": values.tolist() for name, values in batch.get("factors", {}).items()}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def accuracy_table(
    predictions: pd.DataFrame,
    classes: Sequence[str] = (),
    expected: Mapping[str, str] | None = None,
    least: Sequence[float] | None = None,
) -> pd.DataFrame:
    """Accuracy over all images, by size band and by class, and every check of what the classifier looks at.

    Images of several styles have such rows for each style. A control is as expected if its accuracy is within three
    standard errors of chance, or within two points of the images' own accuracy. A factor must not predict the label:
    the second half of the images is classified by the 25 images of the first half that have the nearest values, and
    that may be right three standard errors more often than chance at most. Where the half has fewer images, there is no
    such row, and nothing is expected of a control. ``least`` is expected only of so many images that three may be
    wrong: of fewer a single one would decide.

    Args:
        predictions: the rows of :func:`prediction_rows`.
        classes: names of the classes; numbers where there are none.
        expected: for each control ``"chance"`` or ``"same"``.
        least: accuracy to expect of all images, and of the smallest size band, where there are several.

    Returns:
        Columns style (empty where there is one), group, name, images, accuracy, low and high (NaN where nothing is
        expected) and as_expected (None there).
    """
    names = list(classes) or [str(i) for i in range(1 + int(predictions["label"].max()))]
    styles = dict(list(predictions.groupby("style", sort=False))) if "style" in predictions else {"": predictions}
    rows = [
        {"style": style if len(styles) > 1 else "", **row}
        for style, of_style in styles.items()
        for row in _rows(of_style, names, expected or {}, least or (nan, nan))
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _rows(
    predictions: pd.DataFrame, classes: Sequence[str], expected: Mapping[str, str], least: Sequence[float]
) -> list[dict[str, Any]]:
    label = predictions["label"].to_numpy()
    right = label == predictions["predicted"].to_numpy()
    chance, half = 1 / len(classes), len(label) // 2
    rows = [_row("all", "", right, *_at_least(least[0], len(right)))]
    bands = list(predictions["band"].unique()) if "band" in predictions else []
    for band in sorted(bands, key=lambda text: float(text.split("-")[0]), reverse=True):
        of_band = right[predictions["band"] == band]
        smallest = len(bands) > 1 and band == min(bands, key=lambda text: float(text.split("-")[0]))
        rows.append(_row("size", band, of_band, *_at_least(least[1] if smallest else nan, len(of_band))))
    rows += [_row("class", name, right[label == i]) for i, name in enumerate(classes) if (label == i).any()]
    limits = {
        "chance": _around(chance, _three_errors(chance, len(label))),
        "same": _around(float(right.mean()), TOLERANCE),
    }
    for column in map(str, predictions):
        if column.startswith(CONTROL):
            name = column.removeprefix(CONTROL)
            of_control = limits.get(expected.get(name, ""), ()) if half >= NEIGHBORS else ()
            rows.append(_row("control", name, label == predictions[column].to_numpy(), *of_control))
        elif column.startswith(FACTOR) and half >= NEIGHBORS:
            values = np.array(predictions[column].tolist())
            values = values / np.maximum(values.std(0), 1e-12)
            model = KNeighborsClassifier(NEIGHBORS).fit(values[:half], label[:half])
            guessed = model.predict(values[half:]) == label[half:]
            high = chance + _three_errors(chance, len(guessed))
            rows.append(_row("predicted from", column.removeprefix(FACTOR), guessed, 0.0, high))
    return rows


def worth_showing(table: pd.DataFrame) -> pd.DataFrame:
    """The table without the classes, where these are too many to look at one by one."""
    of_class = table["group"].eq("class")
    return table[~of_class] if of_class.sum() > MOST_CLASSES * table["style"].nunique() else table


def accuracy_markdown(table: pd.DataFrame) -> str:
    """The table for people."""
    texts = []
    table = worth_showing(table)
    for style, of_style in table.groupby("style", sort=False):
        shown = pd.DataFrame(
            {
                "": of_style["group"],
                " ": of_style["name"].map(escaped),
                "images": of_style["images"],
                "accuracy": of_style["accuracy"].map("{:.1%}".format),
                "expected": [
                    "" if np.isnan(low) else f"{low:.1%} to {high:.1%}"
                    for low, high in zip(of_style["low"], of_style["high"], strict=True)
                ],
                "as expected": of_style["as_expected"].map({None: "", True: "yes", False: "**no**"}),
            }
        )
        shown = shown.loc[:, [not shown[name].eq("").all() for name in shown]]
        heading = [f"{str(style).capitalize()} shapes:"] if style else []
        texts += [*heading, shown.to_markdown(index=False)]
    controls = table["group"].eq("control").any()
    if controls and table["images"].max() < 2 * NEIGHBORS:
        texts.append(f"Fewer than {2 * NEIGHBORS} images are too few to judge controls and factors.")
    return "\n\n".join(texts) + "\n"


def _row(group: str, name: str, right: np.ndarray, low: float = nan, high: float = nan) -> dict[str, Any]:
    accuracy = float(right.mean())
    as_expected = None if np.isnan(low) else bool(low <= accuracy <= high)
    values = (group, name, len(right), accuracy, low, high, as_expected)
    return dict(zip(COLUMNS[1:], values, strict=True))


def _at_least(share: float, count: int) -> tuple[float, float]:
    return (share, 1.0) if round(count * (1 - share), 6) >= 3 else (nan, nan)


def _around(value: float, distance: float) -> tuple[float, float]:
    return max(0.0, value - distance), min(1.0, value + distance)


def _three_errors(chance: float, count: int) -> float:
    return 3 * sqrt(chance * (1 - chance) / count)
