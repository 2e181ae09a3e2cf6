"""What an evaluation leaves for people: summary, figure, and both in TensorBoard."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from warnings import warn

import pandas as pd
import torch
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from matplotlib.figure import Figure

from refinecam.attribution import AttributionMethod
from refinecam.evaluation.accuracy import AccuracyRow, accuracy_data, accuracy_markdown
from refinecam.evaluation.figures import overlay_figure
from refinecam.evaluation.results import ResultsFolder
from refinecam.evaluation.scores import GROUND_TRUTH
from refinecam.metrics import Summary


class SummaryRow(NamedTuple):
    """One score of one method over the data set."""

    method: AttributionMethod
    score: str
    summary: Summary


class BirdsReport(NamedTuple):
    """FunnyBirds' scores of all methods: as a table, as text, and as values to log."""

    table: pd.DataFrame
    text: str
    values: dict[str, float]


def write_report(
    results: ResultsFolder,
    rows: Sequence[SummaryRow],
    accuracy: Sequence[AccuracyRow],
    heading: str,
    figure_images: int,
    loggers: Sequence[Logger],
    birds: BirdsReport | None = None,
) -> list[Path]:
    """Write the accuracy and, if methods were scored, merge their rows; write summary and figure; log everything.

    Args:
        results: the evaluation's folder, with the parts of all processes.
        rows: every score of every method; may be empty.
        accuracy: of the classifier, see :func:`~refinecam.evaluation.accuracy.accuracy_rows`.
        heading: what was evaluated, and how, in a line or two.
        figure_images: images in the figure.
        loggers: of the trainer.
        birds: FunnyBirds' scores, where the data has them.

    Returns:
        The files that are new.
    """
    written = ["predictions.parquet", "accuracy.csv"]
    accuracy_data(accuracy).to_csv(results.folder / "accuracy.csv", index=False)
    texts = {"accuracy": f"{heading}\n\n{accuracy_markdown(accuracy)}"}
    told = [row for row in accuracy if row.images]  # the others have no accuracy to log
    values = {f"accuracy/{' '.join(filter(None, (row.style, row.group, row.name)))}": row.accuracy for row in told}
    figure = None
    if rows:
        warn_of_unscored(rows)
        results.merge("per_image")
        summary_table(rows).to_csv(results.folder / "summary.csv", index=False)
        written += ["per_image.parquet", "summary.csv"]
        texts["summary"] = f"{heading}\n\n{summary_markdown(rows)}"
        values |= {f"{row.score}/{row.method.title}": row.summary.mean for row in rows}
        if birds is not None:
            results.merge("funnybirds")
            birds.table.to_csv(results.folder / "funnybirds.csv", index=False)
            written += ["funnybirds.parquet", "funnybirds.csv"]
            texts["summary"] += f"\n{birds.text}"
            values |= birds.values
        kept = results.maps(figure_images)
        figure = maps_figure(kept) if kept else None
    for name, text in texts.items():
        (results.folder / f"{name}.md").write_text(text)
        written.append(f"{name}.md")
    if figure is not None:
        figure.savefig(results.folder / "maps.png", dpi=150)
        written.append("maps.png")
    for logger in loggers:
        logger.log_metrics(values)
        if isinstance(logger, TensorBoardLogger):
            for name, text in texts.items():
                logger.experiment.add_text(name, text)
            if figure is not None:
                logger.experiment.add_figure("maps", figure)
    results.finish(written)
    return [results.folder / name for name in written]


def warn_of_unscored(rows: Sequence[SummaryRow]) -> None:
    """Say which methods made maps without a score, and why there is no score at all if there is none."""
    for method in dict.fromkeys(row.method for row in rows):
        own = [row for row in rows if row.method is method]
        of_map = [row for row in own if row.score not in GROUND_TRUTH] or own  # others need an object in the image, too
        undefined = max(row.summary.undefined for row in of_map)
        if undefined:
            warn(f"{method.title}: {undefined} maps are constant or not finite and have no score", stacklevel=3)
    if not any(row.summary.scored for row in rows):
        skipped = max(row.summary.skipped for row in rows)
        undefined = any(row.summary.undefined for row in rows)
        reasons = [f"{skipped} images are misclassified, and only right ones are explained"] if skipped else []
        if undefined:
            which = "every other map" if skipped else "every map"
            reasons.append(f"{which} is constant or not finite, or its image has no object to compare it with")
        warn(f"no image was scored: {' and '.join(reasons) or 'there was none'}", stacklevel=3)


def summary_table(rows: Sequence[SummaryRow]) -> pd.DataFrame:
    """Long table: method, stage, aggregator, score, then mean, std and the counts."""
    return pd.DataFrame([{**method_columns(row.method), "score": row.score, **row.summary._asdict()} for row in rows])


def method_columns(method: AttributionMethod) -> dict[str, str]:
    """What names a method in every table; empty where it has no stage or aggregator."""
    stage = "" if method.stage is None else str(method.stage)
    return {"method": method.name, "stage": stage, "aggregator": method.aggregator or ""}


def summary_markdown(rows: Sequence[SummaryRow]) -> str:
    """One line a method: mean ± std of every score, how many images were scored, how many had no score.

    Scores that compare with the ground truth have a table of their own.
    """
    with_truth = [row for row in rows if row.score in GROUND_TRUTH]
    without = [row for row in rows if row.score not in GROUND_TRUTH]
    if not (with_truth and without):
        return _markdown(rows)
    return f"With ground truth:\n\n{_markdown(with_truth)}\nWithout:\n\n{_markdown(without)}"


def _markdown(rows: Sequence[SummaryRow]) -> str:
    scores = list(dict.fromkeys(row.score for row in rows))
    lines = ["| method | stage | " + " | ".join(scores) + " | scored | undefined |", "|" + "---|" * (len(scores) + 4)]
    for method in dict.fromkeys(row.method for row in rows):
        found = [row.summary for row in rows if row.method is method]
        cells = [f"{summary.mean:.3f} ± {summary.std:.3f}" for summary in found]
        columns = method_columns(method)
        title = ", ".join(part for part in (columns["method"], columns["aggregator"]) if part)
        counts = [str(min(s.scored for s in found)), str(max(s.undefined for s in found))]
        lines.append(f"| {' | '.join([title, columns['stage'], *cells, *counts])} |")
    return "\n".join(lines) + "\n"


def maps_figure(kept: Sequence[dict[str, Any]]) -> Figure:
    """Overlays of the kept images, see :meth:`~refinecam.evaluation.results.ResultsFolder.maps`."""
    masks = torch.stack([entry["mask"] for entry in kept]) if "mask" in kept[0] else None
    maps = {name: torch.stack([entry["maps"][name] for entry in kept]) for name in kept[0]["maps"]}
    images = torch.stack([entry["image"] for entry in kept])
    return overlay_figure(images, maps, masks, [entry["name"] for entry in kept])
