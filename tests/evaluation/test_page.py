"""The page of evaluations: whole in one file, escaped, and sorted by a click."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from refinecam.commands import make_report
from refinecam.evaluation.page import page

CHROMIUM = shutil.which("chromium")


class Reader(HTMLParser):
    """Tables as lists of rows, addresses of pictures, and the tags that are there."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.sources, self.tags, self.cell = [], [], set(), None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.cell = ""
        elif tag == "img":
            self.sources.append(dict(attrs)["src"])

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.tables[-1][-1].append(self.cell)
            self.cell = None

    def handle_data(self, data):
        if self.cell is not None:
            self.cell += data


def test_page_has_every_method_and_needs_no_other_file(evaluated):
    text = page([evaluated, evaluated])
    read = Reader(text)
    together, first = read.tables[:2]
    assert together[0][:2] == ["method", "evaluation"]
    assert [row[0] for row in first[1:]] == [
        "GradCAM++, stage -1",
        "LayerCAM, stage 0",
        "RefineCAM(LayerCAM), stage 0, product",
        "RandomCAM",
        "All1sCAM",
    ]
    assert len(together) == 1 + 2 * 5
    assert read.sources
    assert all(source.startswith("data:image/") for source in read.sources)
    assert not re.search(r"(src|href)=\"(?!data:)", text)
    assert "Disputed most" in text


def test_names_are_escaped(evaluated, tmp_path):
    folder = tmp_path / "<b>folder"
    shutil.copytree(evaluated, folder)
    about = json.loads((folder / "evaluation.json").read_text())
    about["title"] = "<script>alert(1)</script> & $x$"
    (folder / "evaluation.json").write_text(json.dumps(about))
    text = page([folder])
    assert "<script>alert" not in text
    assert "&lt;b&gt;folder" in text
    assert "b" not in Reader(text).tags


def test_command_writes_the_page_alone(evaluated, tmp_path, capsys):
    before = {path: path.stat().st_mtime_ns for path in evaluated.iterdir()}
    make_report([str(evaluated), "--html", str(tmp_path / "page.html")])
    assert "page.html" in capsys.readouterr().out
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")
    assert {path: path.stat().st_mtime_ns for path in evaluated.iterdir()} == before


@pytest.mark.skipif(CHROMIUM is None, reason="no browser")
def test_a_click_sorts_a_table(evaluated, tmp_path):
    click = "<script>document.querySelectorAll('table')[0].querySelectorAll('th')[1].click()</script></body>"
    (tmp_path / "page.html").write_text(page([evaluated]).replace("</body>", click))
    shown = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", f"file://{tmp_path}/page.html"],
        capture_output=True, text=True, check=True, timeout=120,
    ).stdout  # fmt: skip
    values = [float(row[1]) for row in Reader(shown).tables[0][1:]]
    assert values == sorted(values, reverse=True)
