"""What TensorBoard shows of an evaluation: a run for each method, so that a chart has a curve for each."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from lightning.pytorch.core.saving import save_hparams_to_yaml
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.figure import Figure
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from refinecam.evaluation.table import KEYS, title_of

HEADLINES = ("cosine_similarity", "road", "arcc", "adcc")
"""Scores with curves and in the table of hyperparameters."""
POINTS = 100
"""Of a curve, at most."""


def log_methods(
    logger: TensorBoardLogger, table: pd.DataFrame, about: Mapping[str, Any], of_data: Mapping[str, float]
) -> None:
    """Write each method's row of the HParams page, and the mean of its headline scores over more and more images.

    Args:
        logger: its folder gets a folder for each method.
        table: the per-image table.
        about: the evaluation's manifest.
        of_data: further scores of the data set, by ``funnybirds_score/TITLE``.
    """
    scores = [score["name"] for score in about["scores"] if score["name"] in HEADLINES]
    columns = about.get("columns", {})
    for keys, own in table[~table["skipped"]].groupby(list(KEYS), sort=False):
        named = dict(zip(KEYS, keys, strict=True))
        own = own.sort_values("index")
        with SummaryWriter(str(Path(logger.log_dir) / folder_of(title_of(named)))) as writer:
            means = {f"headline/{score}": float(own[score].mean()) for score in scores}
            if (birds := of_data.get(f"funnybirds_score/{title_of(named)}")) is not None:
                means["headline/funnybirds"] = birds
                writer.add_scalar("headline/funnybirds", birds, own["index"].nunique())
            for summary in hparams({**columns, **named}, means):
                writer.file_writer.add_summary(summary)
            for score in scores:
                values = own[score].to_numpy(np.float64)
                there = np.flatnonzero(np.isfinite(values))
                running = np.cumsum(values[there]) / np.arange(1, len(there) + 1)
                for at in np.unique(np.linspace(0, len(there) - 1, min(POINTS, len(there))).round().astype(int)):
                    writer.add_scalar(f"headline/{score}", running[at], there[at] + 1)


def log_report(
    logger: TensorBoardLogger, texts: Mapping[str, str], figures: Mapping[str, Figure], about: Mapping[str, Any]
) -> None:
    """Write tables and figures, and say in ``hparams.yaml`` what was evaluated."""
    folder = Path(logger.log_dir)
    folder.mkdir(parents=True, exist_ok=True)
    save_hparams_to_yaml(folder / logger.NAME_HPARAMS_FILE, about.get("columns", {}))  # Lightning's own is empty
    for name, text in texts.items():
        logger.experiment.add_text(name, text)
    for name, figure in figures.items():
        logger.experiment.add_figure(name, figure)


def folder_of(title: str) -> str:
    """A method's name as a folder: only what every file system takes."""
    return "".join(letter if letter.isalnum() or letter in "-_+()=," else "_" for letter in title)[:150]
