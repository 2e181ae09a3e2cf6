"""Figures of the studies."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

WIDTH = 9.0
COLORS = colormaps["tab10"].colors  # type: ignore[attr-defined]


def bars(table: pd.DataFrame, rows: str, series: str, title: str) -> Figure:
    """Horizontal bars of ``mean`` with the interval from ``low`` to ``high``: a group for each row, a bar a series."""
    names, kinds = list(table[rows].unique()), list(table[series].unique())
    height = 0.8 / len(kinds)
    figure = Figure(figsize=(WIDTH, 1.2 + 0.16 * len(names) * max(2, len(kinds))), layout="constrained")
    axis = figure.subplots()
    for number, kind in enumerate(kinds):
        own = table[table[series] == kind].set_index(rows).reindex(names)
        places = np.arange(len(names)) + (number - (len(kinds) - 1) / 2) * height
        spread = np.abs(own[["low", "high"]].to_numpy(float).T - own["mean"].to_numpy(float))
        axis.barh(
            places,
            own["mean"],
            height,
            xerr=spread,
            label=_plain(kind),
            color=COLORS[number % 10],
            error_kw={"linewidth": 0.8},
        )
    axis.set_yticks(np.arange(len(names)), [_plain(name) for name in names], fontsize=8)
    axis.invert_yaxis()
    axis.axvline(0, color="black", linewidth=0.6)
    axis.grid(axis="x", linewidth=0.3)
    axis.set_title(_plain(title), fontsize=10)
    if len(kinds) > 1:
        axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def dots(table: pd.DataFrame, marked: Sequence[str], title: str) -> Figure:
    """A panel for each ``score``: the methods' means with their intervals, some methods marked in red."""
    names, scores = list(table["method"].unique()), list(table["score"].unique())
    figure = Figure(figsize=(1.6 * len(scores) + 2.5, 1.0 + 0.24 * len(names)), layout="constrained")
    axes = figure.subplots(1, len(scores), squeeze=False, sharey=True)[0]
    for axis, score in zip(axes, scores, strict=True):
        own = table[table["score"] == score].set_index("method").reindex(names)
        for place, name in enumerate(names):
            mean, low, high = own.loc[name, ["mean", "low", "high"]].astype(float)
            color = "tab:red" if name in marked else "tab:blue"
            axis.errorbar(
                mean,
                place,
                xerr=[[max(0, mean - low)], [max(0, high - mean)]],
                fmt="o",
                markersize=4,
                color=color,
                linewidth=1,
            )
        axis.set_title(_plain(score), fontsize=8)
        axis.xaxis.set_major_locator(MaxNLocator(4))
        axis.tick_params(labelsize=7)
        axis.grid(linewidth=0.3)
    axes[0].set_yticks(np.arange(len(names)), [_plain(name) for name in names])
    axes[0].invert_yaxis()
    figure.suptitle(_plain(title), fontsize=10)
    return figure


def scatters(
    panels: Mapping[str, tuple[np.ndarray, np.ndarray]], titles: Sequence[str], truth: str, title: str
) -> Figure:
    """For each score a panel of maps, score by truth, in the methods' colors, with their means.

    Args:
        panels: for each score its values and the truth's, both (images, methods).
        titles: of the methods.
        truth: name of the vertical axis.
        title: of the figure.
    """
    columns = 3
    count = -(-len(panels) // columns)
    figure = Figure(figsize=(WIDTH + 2, 2.6 * count + 0.8), layout="constrained")
    axes = figure.subplots(count, columns, squeeze=False, sharey=True).flat
    colors = [colormaps["tab20"](number % 20) for number in range(len(titles))]
    for axis, (name, (values, truths)) in zip(axes, panels.items(), strict=False):
        for number, color in enumerate(colors):
            axis.scatter(values[:, number], truths[:, number], s=4, alpha=0.35, color=color, linewidths=0)
        for number, (color, method) in enumerate(zip(colors, titles, strict=True)):
            axis.scatter(
                np.nanmean(values[:, number]),
                np.nanmean(truths[:, number]),
                s=45,
                color=color,
                edgecolors="black",
                linewidths=0.8,
                label=_plain(method),
            )
        axis.set_xlabel(_plain(name), fontsize=8)
        axis.xaxis.set_major_locator(MaxNLocator(5))
        axis.tick_params(labelsize=7)
    every = figure.axes
    for axis in every[len(panels) :]:
        axis.set_axis_off()
    for axis in every[::columns]:
        axis.set_ylabel(_plain(truth), fontsize=8)
    figure.legend(*every[0].get_legend_handles_labels(), loc="outside right center", fontsize=7)
    figure.suptitle(
        _plain(f"{title}: each map, and the methods' means; lower-is-better scores are negated"), fontsize=10
    )
    return figure


def lines(table: pd.DataFrame, title: str) -> Figure:
    """For each score a panel: means by stage with their intervals, a line for each CAM and kind."""
    scores = list(table["score"].unique())
    figure = Figure(figsize=(3.6 * len(scores) + 1, 3.4), layout="constrained")
    axes = figure.subplots(1, len(scores), squeeze=False)[0]
    for axis, score in zip(axes, scores, strict=True):
        of_score = table[table["score"] == score]
        for number, ((cam, kind), own) in enumerate(of_score.groupby(["cam", "kind"], sort=False)):
            spread = np.abs(own[["low", "high"]].to_numpy(float).T - own["mean"].to_numpy(float))
            axis.errorbar(
                own["stage"],
                own["mean"],
                spread,
                label=_plain(f"{cam} {kind}"),
                capsize=2,
                color=COLORS[number // 2],
                linestyle="-" if number % 2 else "--",
                marker="o",
                markersize=3,
            )
        axis.set_xticks(sorted(table["stage"].unique()))
        axis.set_xlabel("stage, shallow to deep", fontsize=8)
        axis.set_title(_plain(score), fontsize=9)
        axis.grid(linewidth=0.3)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", fontsize=8)
    figure.suptitle(_plain(title), fontsize=10)
    return figure


def _plain(text: object) -> str:
    """Text that matplotlib does not take for a formula."""
    return str(text).replace("$", r"\$")
