import sys

from PIL import Image

from refinecam.data.shapes import __main__ as sheet


def test_sheet_shows_each_class_style_and_size(tmp_path, monkeypatch, page_folder):
    target = tmp_path / "out/shapes.png"
    monkeypatch.setattr(sys, "argv", ["shapes", str(target), "--backgrounds", str(page_folder)])
    sheet.main()
    with Image.open(target) as image:
        assert image.size == (6 * 226 + 2, 6 * 226 + 2)
