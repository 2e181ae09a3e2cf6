"""What people read of an evaluation, made from its tables alone: summaries, figure, TensorBoard."""

from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from warnings import warn

import pandas as pd
import torch
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from matplotlib.figure import Figure

from refinecam.core.files import write_file
from refinecam.data import REPORTS
from refinecam.evaluation.accuracy import accuracy_markdown, accuracy_table, worth_showing
from refinecam.evaluation.store import Results
from refinecam.evaluation.table import KEYS, escaped, summarize, title_of
from refinecam.evaluation.tensorboard import HEADLINES, log_methods, log_report
from refinecam.visualization import overlay_figure


def report(folder: str | Path, loggers: Sequence[Logger] = ()) -> list[Path]:
    """Write the accuracy and, if methods were scored, summary and figure; log them.

    Args:
        folder: the output of an evaluation.
        loggers: get every number and, where they are TensorBoard's, texts and figure.

    Returns:
        The files that were written.

    Raises:
        InputError: if the folder has no evaluation.
    """
    results = Results(folder)
    about, tables = results.about, results.tables()
    of_masks = [score["name"] for score in about["scores"] if score["needs_masks"]]
    predictions = tables["predictions"]
    accuracy = accuracy_table(predictions, about["classes"], about["expected_of_controls"], about["least_accuracy"])
    right = (predictions["label"] == predictions["predicted"]).mean()
    heading = f"{escaped(about['title'])}: {len(predictions)} images, accuracy {right:.1%}"
    csv = {"accuracy": accuracy}
    values = {
        f"accuracy/{' '.join(filter(None, (row.style, row.group, row.name)))}": row.accuracy
        for row in worth_showing(accuracy).itertuples()
    }
    if "skipped" in tables:
        csv["skipped"] = tables["skipped"]
        heading += f", {len(tables['skipped'])} more could not be read (skipped.csv)"
    texts = {"accuracy": f"{heading}\n\n{accuracy_markdown(accuracy)}"}
    figure, short = None, {}
    if "per_image" in tables:
        summary = summarize(tables["per_image"], [score["name"] for score in about["scores"]])
        warn_of_unscored(summary, of_masks)
        csv["summary"] = summary
        texts["summary"] = f"{heading}, {_explained(about, summary)}\n\n{summary_markdown(summary, of_masks)}"
        headlines = summary[summary["score"].isin(HEADLINES)]
        short = {"headlines": _markdown(headlines)} if len(headlines) else {}
        values |= {f"{row['score']}/{title_of(row)}": row["mean"] for _, row in summary.iterrows()}
        figure = maps_figure(results)
        for name in sorted(tables.keys() - {"per_image", "predictions", "skipped"}):
            if name not in REPORTS:
                warn(f"{name}.parquet: nothing loaded makes a report of it; import its data module first", stacklevel=2)
                continue
            own = REPORTS[name](tables[name])
            csv[name] = own.table
            texts["summary"] += f"\n{own.text}"
            values |= own.values
    written = []
    for name, table in csv.items():
        write_file(results.folder / f"{name}.csv", partial(table.to_csv, index=False))
        written.append(f"{name}.csv")
    for name, text in texts.items():
        write_file(results.folder / f"{name}.md", partial(_write_text, text=text))
        written.append(f"{name}.md")
    if figure is not None:
        write_file(results.folder / "maps.png", partial(figure.savefig, dpi=150))
        written.append("maps.png")
    known = {"summary.csv", "summary.md", "skipped.csv", "maps.png", *(f"{name}.csv" for name in REPORTS)}
    for name in known - set(written):  # an earlier evaluation's
        (results.folder / name).unlink(missing_ok=True)
    for logger in loggers:
        if not isinstance(logger, TensorBoardLogger):
            logger.log_metrics(values)
            continue
        log_report(logger, texts | short, {} if figure is None else {"maps": figure}, about)
        if "per_image" in tables:
            log_methods(logger, tables["per_image"], about, values)
    return [results.folder / name for name in written]


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _explained(about: dict, summary: pd.DataFrame) -> str:
    skipped = int(summary["skipped"].max())
    which = f"{skipped} misclassified skipped" if about["only_correct"] else "all of them scored"
    named = {score["name"]: score["note"] for score in about["scores"] if score["note"]}
    lines = [f"{', '.join(n for n in named if named[n] == note)}: {note}." for note in dict.fromkeys(named.values())]
    scores = " ".join(["mean ± std of the per-image scores.", *lines])
    return f"{which}; the {about['target']} class explained; {scores}"


def warn_of_unscored(summary: pd.DataFrame, of_masks: Sequence[str]) -> None:
    """Say which methods made maps without a score, and why there is no score at all if there is none."""
    for _, own in summary.groupby(list(KEYS), sort=False):
        of_map = own[~own["score"].isin(of_masks)]  # the others need an object in the image, too
        undefined = int((of_map if len(of_map) else own)["undefined"].max())
        if undefined:
            name = title_of(own.iloc[0].to_dict())
            warn(f"{name}: {undefined} maps are constant or not finite and have no score", stacklevel=3)
    if not summary["scored"].any():
        skipped, undefined = int(summary["skipped"].max()), bool(summary["undefined"].any())
        reasons = [f"{skipped} images are misclassified, and only right ones are explained"] if skipped else []
        if undefined:
            which = "every other map" if skipped else "every map"
            reasons.append(f"{which} is constant or not finite, or its image has no object to compare it with")
        warn(f"no image was scored: {' and '.join(reasons) or 'there was none'}", stacklevel=3)


def summary_markdown(summary: pd.DataFrame, of_masks: Sequence[str] = ()) -> str:
    """One line a method: mean ± std of every score, how many images were scored, how many had no score.

    Scores that compare with the ground truth have a table of their own.

    Args:
        summary: from :func:`~refinecam.evaluation.table.summarize`.
        of_masks: the scores that compare with the ground truth.
    """
    with_masks = summary["score"].isin(of_masks)
    if not with_masks.any() or with_masks.all():
        return _markdown(summary)
    return f"With ground truth:\n\n{_markdown(summary[with_masks])}\nWithout:\n\n{_markdown(summary[~with_masks])}"


def _markdown(summary: pd.DataFrame) -> str:
    rows = []
    for (method, stage, aggregator), own in summary.groupby(list(KEYS), sort=False):
        cells = {row.score: f"{row.mean:.3f} ± {row.std:.3f}" for row in own.itertuples()}
        title = escaped(", ".join(part for part in (method, aggregator) if part))
        counts = {"scored": own["scored"].min(), "undefined": own["undefined"].max()}
        rows.append({"method": title, "stage": stage, **cells, **counts})
    return pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True) + "\n"


def maps_figure(results: Results, titles: Collection[str] = ()) -> Figure | None:
    """Overlays of the kept images; None where there are none.

    Args:
        results: of an evaluation.
        titles: of the methods to show; all if there are none.
    """
    kept = results.kept()
    if not kept:
        return None

    def together(name: str) -> torch.Tensor:
        return torch.stack([torch.from_numpy(entry[name]).float() for entry in kept])

    there = {name.removeprefix("map: "): name for name in kept[0] if name.startswith("map: ")}
    maps = {title: together(name) for title, name in there.items() if title in (titles or there)}
    masks = together("mask") if "mask" in kept[0] else None
    return overlay_figure(together("image"), maps, masks, [str(entry["name"]) for entry in kept])
