"""The published results are whole, and the page of findings says of them what they print."""

import re

import pandas as pd

from refinecam.study import run_study
from tests.command_lines import ROOT

NUMBER = r"(-?\d\.\d{3})"
INTERVAL = rf"{NUMBER} \[{NUMBER}, {NUMBER}\]"
VALUES = ("difference", "value", "mean", "pooled")


def either_way(value, low, high):
    """An interval as it is, and of the difference the other way round."""
    return {f"{value:.3f} [{low:.3f}, {high:.3f}]", f"{-value:.3f} [{-high:.3f}, {-low:.3f}]"}


def intervals(printed, folder):
    """Every interval of the claims and of the tables."""
    found = [tuple(map(float, numbers)) for numbers in re.findall(INTERVAL, printed)]
    for table in map(pd.read_csv, folder.rglob("*.csv")):
        for name in {*VALUES} & {*table}:
            found += table[[name, "low", "high"]].itertuples(index=False)
    return set().union(*(either_way(*each) for each in found))


def test_figures_and_findings_come_from_the_published_results(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    run_study(["verdict", "--results", "results", "--no-evaluate", "--output", str(tmp_path)])
    printed = capsys.readouterr().out
    for figure in ("trivial/trivial", "correlation/correlation", "stages/stages"):
        assert (tmp_path / f"{figure}-shapes-shapes-resnet18.png").stat().st_size > 10_000
    assert (tmp_path / "verdict.md").read_text() in printed
    text = re.sub(r"\s+", " ", (ROOT / "docs/findings.md").read_text()).replace("\N{MINUS SIGN}", "-")
    quoted = {match.group(0) for match in re.finditer(INTERVAL, text)}
    assert len(quoted) > 20
    assert sorted(quoted - intervals(printed, tmp_path)) == []
    counts = dict(reversed(pair) for pair in re.findall(r"(\d+) (checks|held|did not hold|undecided)", printed))
    assert (
        f"Of {counts['checks']} checks of claims, the paper's and our own, {counts['held']} held, "
        f"{counts['did not hold']} did not hold and {counts['undecided']} are undecided" in text
    )
