"""The published results are whole, and the page of findings says of them what they print."""

import re

from refinecam.study import run_study
from tests.command_lines import ROOT


def test_figures_and_findings_come_from_the_published_results(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    run_study(["verdict", "--results", "results", "--no-evaluate", "--output", str(tmp_path)])
    printed = capsys.readouterr().out
    for figure in ("trivial/trivial", "correlation/correlation", "stages/stages"):
        assert (tmp_path / f"{figure}-shapes-shapes-resnet18.png").stat().st_size > 10_000
    assert (tmp_path / "verdict.md").read_text() in printed
    text = re.sub(r"\s+", " ", (ROOT / "docs/findings.md").read_text()).replace("\N{MINUS SIGN}", "-")
    quoted = set(re.findall(r"-?\d\.\d{3} \[-?\d\.\d{3}, -?\d\.\d{3}\]", text))
    claims = set(re.findall(r"-?\d\.\d{3} \[-?\d\.\d{3}, -?\d\.\d{3}\]", printed))
    assert len(quoted & claims) >= 10
