"""Files of a study: tables as CSV, Markdown and LaTeX, figures as PNG and PDF, claims as a page; all in TensorBoard."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import pandas as pd
from torch.utils.tensorboard import SummaryWriter

from refinecam.core.files import write_file
from refinecam.evaluation.table import escaped
from refinecam.studies.base import Claim, Findings

EVENTS = ".study"
"""End of the names of TensorBoard files, which the next run of a study replaces."""


def write_findings(findings: Findings, folder: Path) -> list[Path]:
    """Write everything of a study into a folder; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []

    def write(name: str, make: partial) -> None:
        write_file(folder / name, make)
        written.append(folder / name)

    for name, table in findings.tables.items():
        write(f"{name}.csv", partial(table.to_csv, index=False))
        shown = table.round(3)
        write(f"{name}.md", partial(_write, markdown(shown)))
        write(f"{name}.tex", partial(_write, latex(shown)))
    for name, figure in findings.figures.items():
        write(f"{name}.png", partial(figure.savefig, dpi=150))
        write(f"{name}.pdf", partial(figure.savefig, metadata={"CreationDate": None}))
    if findings.claims:
        write("claims.md", partial(_write, claims_page({"": findings.claims})))
    show_in_tensorboard(findings, folder)
    return written


def show_in_tensorboard(findings: Findings, folder: Path) -> None:
    """Claims, tables and figures, instead of those of an earlier run."""
    for earlier in folder.glob(f"events.out.tfevents.*{EVENTS}"):
        earlier.unlink()
    with SummaryWriter(str(folder), filename_suffix=EVENTS) as writer:
        if findings.claims:
            writer.add_text("claims", claims_page({"": findings.claims}))
        for name, table in findings.tables.items():
            writer.add_text(name, markdown(table.round(3)))
        for name, figure in findings.figures.items():
            writer.add_figure(name, figure, close=False)


def markdown(table: pd.DataFrame) -> str:
    """A table whose texts are shown as they are."""
    escaped_ = table.map(lambda value: escaped(value) if isinstance(value, str) else value)
    return escaped_.to_markdown(index=False) + "\n"


def latex(table: pd.DataFrame) -> str:
    """A table in the style of booktabs."""
    if not len(table.columns):
        return ""
    styler = table.style.hide(axis="index").format(precision=3, escape="latex", na_rep="--")
    return styler.format_index(escape="latex", axis=1).to_latex(hrules=True, column_format=_alignment(table))


def _alignment(table: pd.DataFrame) -> str:
    return "".join("r" if pd.api.types.is_numeric_dtype(kind) else "l" for kind in table.dtypes)


def claims_page(sections: Mapping[str, Sequence[Claim]]) -> str:
    """The claims with their effects, as Markdown: a section for each study, by its title."""
    claims = [claim for section in sections.values() for claim in section]
    counts = pd.Series([claim.verdict for claim in claims]).value_counts()
    summary = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    intro = (
        f"{len(claims)} checks: {summary}. An effect is what the claim says is above 0, with its bootstrap 95% "
        "interval over images; a claim held where the whole interval is above 0, and did not where it is below. Where "
        "refined maps are compared, a map that is the same everywhere has the score 0 (of roc_auc 0.5)."
    )
    heads = ("claim", "measured", "where", "effect", "images", "verdict")
    page = f"# What held\n\n{intro}\n"
    for title, section in sections.items():
        lines = [(c.text, c.effect, c.where, str(c.estimate), c.estimate.images, c.verdict) for c in section]
        page += (f"\n## {title}\n" if title else "") + f"\n{markdown(pd.DataFrame(lines, columns=heads))}"
    return page


def _write(text: str, path: Path) -> None:
    path.write_text(text, encoding="utf-8")
