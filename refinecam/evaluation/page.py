"""One HTML file of one or several evaluations: tables that sort, figures, and images with their maps."""

import base64
import html
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from refinecam.evaluation.accuracy import worth_showing
from refinecam.evaluation.store import Results
from refinecam.evaluation.table import KEYS, summarize, title_of
from refinecam.visualization import overlay

TILE = 160
DISPUTED = 3
HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>refinecam</title><style>
body{font:15px/1.5 system-ui,sans-serif;max-width:1500px;margin:2em auto;padding:0 1em;color:#222}
table{border-collapse:collapse;font-size:13px;margin:1em 0;display:block;overflow-x:auto}
th,td{padding:.25em .45em;border-bottom:1px solid #ddd;text-align:right;white-space:nowrap}
th:first-child,td:first-child{text-align:left}th{cursor:pointer;background:#f3f3f3}
figure{display:inline-block;margin:.3em;width:160px;vertical-align:top}figcaption{font-size:11px;line-height:1.3}
figure img{width:160px}img{max-width:100%}.pair{display:inline-block;width:345px;vertical-align:top}
h4{margin:.5em 0 0}details{margin:.5em 0}pre{background:#f7f7f7;padding:1em;overflow-x:auto}
</style></head><body>
"""
SCRIPT = """<script>
document.querySelectorAll("th").forEach(th => th.addEventListener("click", () => {
  const table = th.closest("table"), body = table.tBodies[0], column = [...th.parentNode.children].indexOf(th);
  const down = th.dataset.down !== "1"; th.dataset.down = down ? "1" : "0";
  const value = row => row.cells[column].textContent, number = text => parseFloat(text);
  const compare = (a, b) => isNaN(number(a)) || isNaN(number(b)) ? a.localeCompare(b) : number(a) - number(b);
  [...body.rows].sort((a, b) => (down ? -1 : 1) * compare(value(a), value(b))).forEach(row => body.append(row));
}));
</script></body></html>
"""


def page(folders: Iterable[str | Path], figures: Sequence[Path] = ()) -> str:
    """The page of these evaluations, which needs no other file.

    Args:
        folders: outputs of evaluations.
        figures: further pictures to show.

    Raises:
        InputError: if a folder has no evaluation.
    """
    parts: list[str] = []
    summaries: list[pd.DataFrame] = []
    for folder in folders:
        results = Results(folder)
        about, tables = results.about, results.tables()
        parts.append(f"<h2>{html.escape(about['title'])}</h2>\n<p>{html.escape(Path(folder).name)}</p>")
        parts += _tables(results, about, tables, summaries)
        parts.append(_picture(Path(folder) / "maps.png"))
        if "per_image" in tables:
            parts.append(_gallery(results, tables["per_image"], [score["name"] for score in about["scores"]]))
        parts.append(
            f"<details><summary>configuration</summary>\n<pre>{html.escape(_configuration(about))}</pre></details>"
        )
    together = _table(pd.concat(summaries, ignore_index=True)) if len(summaries) > 1 else ""
    shown = "\n".join(_picture(figure) for figure in figures)
    heading = "<h1>Evaluation of attribution maps</h1>\n<p>Click on a column's name to sort by it.</p>\n"
    return HEAD + heading + (f"<h2>All</h2>\n{together}" if together else "") + shown + "\n".join(parts) + SCRIPT


def _tables(
    results: Results, about: Mapping[str, Any], tables: Mapping[str, pd.DataFrame], summaries: list[pd.DataFrame]
) -> list[str]:
    parts = []
    right = (tables["predictions"]["label"] == tables["predictions"]["predicted"]).mean()
    parts.append(f"<p>{len(tables['predictions'])} images, accuracy {right:.1%}</p>")
    if "per_image" in tables:
        summary = summarize(tables["per_image"], [score["name"] for score in about["scores"]])
        rows = []
        for keys, own in summary.groupby(list(KEYS), sort=False):
            means = dict(zip(own["score"], own["mean"], strict=True))
            counts = {"scored": own["scored"].min(), "undefined": own["undefined"].max()}
            rows.append({"method": title_of(dict(zip(KEYS, keys, strict=True))), **means, **counts})
        wide = pd.DataFrame(rows)
        summaries.append(
            pd.concat([wide[["method"]].assign(evaluation=about["title"]), wide.drop(columns="method")], axis=1)
        )
        parts.append(_table(wide))
    for name in sorted(path.stem for path in results.folder.glob("*.csv")):
        if name != "summary":
            table = pd.read_csv(results.folder / f"{name}.csv")
            shown = worth_showing(table) if name == "accuracy" else table
            parts.append(f"<details><summary>{html.escape(name)}</summary>\n{_table(shown)}</details>")
    return parts


def _table(table: pd.DataFrame) -> str:
    return table.to_html(index=False, float_format="%.3f", border=0, na_rep="")


def _configuration(about: Mapping[str, Any]) -> str:
    return json.dumps({key: about[key] for key in ("identity", "calls", "scores") if key in about}, indent=1)


def _picture(file: Path) -> str:
    if not file.is_file():
        return ""
    return f'<p><img alt="{html.escape(file.stem)}" src="data:image/png;base64,{_base64(file.read_bytes())}"></p>'


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _gallery(results: Results, rows: pd.DataFrame, scores: Sequence[str]) -> str:
    """Of the images whose maps were kept: each method's best and worst, and those that the methods dispute most."""
    kept = {int(path.stem): dict(np.load(path)) for path in sorted((results.folder / "maps").glob("[!.]*.npz"))}
    score = "arcc" if "arcc" in scores else next(iter(scores), None)
    if not kept or score is None:
        return ""
    rows = rows[rows["index"].isin(kept)]
    values = rows.assign(title=[title_of(row) for _, row in rows[list(KEYS)].iterrows()])
    wide = values.pivot_table(index="index", columns="title", values=score, sort=False)
    parts = []
    for title in wide:
        column = wide[title].dropna()
        if len(column):
            ends = {"best": column.idxmax(), "worst": column.idxmin()}
            tiles = "".join(
                _tile(kept[i], title, f"{end}: image {i}, {score} {column[i]:.3f}") for end, i in ends.items()
            )
            parts.append(f'<div class="pair"><h4>{html.escape(title)}</h4>\n{tiles}</div>')
    disputed = wide.std(axis=1).nlargest(DISPUTED).index
    rest = [
        f"<h4>image {i}, {html.escape(str(kept[i]['name']))}</h4>\n"
        + "".join(_tile(kept[i], title, f"{title}: {score} {wide.loc[i, title]:.3f}") for title in wide)
        for i in disputed
    ]
    return (
        f"<h3>Best and worst of {len(kept)} images by {html.escape(score)}</h3>\n<details open>"
        f"<summary>by method</summary>{''.join(parts)}</details>\n<h3>Disputed most</h3>\n{''.join(rest)}"
    )


def _tile(entry: Mapping[str, np.ndarray], title: str, caption: str) -> str:
    """A map over its image."""
    name = f"map: {title}"
    if name not in entry:
        return ""
    picture = (255 * entry["image"].astype(np.float32).transpose(1, 2, 0).clip(0, 1)).round().astype(np.uint8)
    image = Image.fromarray(overlay(picture, entry[name][0].astype(np.float32)))
    image.thumbnail((TILE, TILE))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=85)
    source = f"data:image/jpeg;base64,{_base64(file.getvalue())}"
    text = html.escape(caption)
    return f'<figure><img alt="{text}" src="{source}"><figcaption>{text}</figcaption></figure>\n'
