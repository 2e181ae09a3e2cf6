from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from refinecam.attribution import GradCAM, LayerCAM, RefineCAM
from refinecam.data.transforms import shown_colors
from refinecam.evaluation.figures import confusion_figure, overlay, overlay_figure
from refinecam.evaluation.report import SummaryRow, summary_markdown, summary_table, warn_of_unscored
from refinecam.evaluation.results import ResultsFolder
from refinecam.metrics import Summary

ROWS = [
    SummaryRow(method, score, Summary(mean, 0.25, 9, 1, 2))
    for method in (GradCAM(), RefineCAM(LayerCAM()))
    for score, mean in (("road", 0.5), ("arcc", 0.125))
]


def test_summary():
    table = summary_table(ROWS)
    assert table.columns.tolist() == [
        *("method", "stage", "aggregator", "score", "mean", "std", "scored", "undefined", "skipped")
    ]
    assert table["mean"].tolist() == [0.5, 0.125, 0.5, 0.125]
    assert summary_markdown(ROWS).splitlines() == [
        "| method | stage | road | arcc | scored | undefined |",
        "|---|---|---|---|---|---|",
        "| GradCAM | -1 | 0.500 ± 0.250 | 0.125 ± 0.250 | 9 | 1 |",
        "| RefineCAM(LayerCAM), product | 0 | 0.500 ± 0.250 | 0.125 ± 0.250 | 9 | 1 |",
    ]
    truth = [SummaryRow(row.method, "iou", row.summary) for row in ROWS[::2]]
    assert summary_markdown([*ROWS, *truth]) == "\n".join(
        ["With ground truth:\n", summary_markdown(truth), "Without:\n", summary_markdown(ROWS)]
    )


@pytest.mark.parametrize(
    ("undefined", "skipped", "message"),
    [
        (0, 5, "no image was scored: 5 images are misclassified, and only right ones are explained$"),
        (3, 0, "no image was scored: every map is constant .* or its image has no object to compare it with$"),
        (3, 2, "no image was scored: 2 images are misclassified, .* and every other map is constant"),
        (0, 0, "no image was scored: there was none$"),
    ],
)
def test_why_no_image_was_scored_is_said(undefined, skipped, message):
    summary = Summary(float("nan"), float("nan"), 0, undefined, skipped)
    with pytest.warns(UserWarning, match=message):
        warn_of_unscored([SummaryRow(GradCAM(), "road", summary)])


def test_rows_of_all_processes_are_merged_in_order(tmp_path):
    results = ResultsFolder(tmp_path)
    results.start()
    results.add_rows("per_image", "rank001-000000", [{"index": 1, "method": "b"}, {"index": 1, "method": "a"}])
    results.add_rows("per_image", "rank000-000000", [{"index": 2, "method": "b"}, {"index": 0, "method": "b"}])
    table = results.merge("per_image")
    assert table["index"].tolist() == [0, 1, 1, 2]
    assert table["method"].tolist() == ["b", "b", "a", "b"]  # the methods' own order
    pd.testing.assert_frame_equal(table, pd.read_parquet(tmp_path / "per_image.parquet"))
    results.start()  # as after an interruption
    assert sorted(path.name for path in (tmp_path / "parts-1").iterdir()) == [
        "rank000-000000.parquet",
        "rank001-000000.parquet",
    ]


def test_figures_have_a_cell_for_everything():
    images, masks = torch.rand(2, 3, 8, 8), torch.ones(2, 1, 8, 8)
    maps = {"one": torch.rand(2, 1, 8, 8), "two": torch.full((2, 1, 8, 8), torch.nan)}
    assert len(overlay_figure(images, maps, masks, ["a", "b"]).axes) == 2 * 4
    assert len(overlay_figure(images, maps).axes) == 2 * 3
    labels = [text.get_text() for text in confusion_figure(torch.tensor([[3, 1], [0, 4]]), ["x", "y"]).axes[0].texts]
    assert labels == ["3", "1", "0", "4"]


@pytest.mark.parametrize(
    ("images", "maps", "message"),
    [
        (torch.rand(2, 8, 8, 3), {}, r"images: expected a float tensor \(N, 3, H, W\), got \(2, 8, 8, 3\)"),
        (torch.rand(3, 8, 8).numpy(), {}, r"images: expected a float tensor \(N, 3, H, W\), got ndarray"),
        (torch.rand(2, 3, 8, 8) - 2, {}, r"images: expected colors in \[0, 1\], got -.*images \* std \+ mean"),
        (torch.rand(2, 3, 8, 8), torch.rand(2, 1, 8, 8), 'maps: expected {"name": maps}, got a Tensor'),
        (torch.rand(2, 3, 8, 8), {"a": torch.rand(2, 8, 8)}, r"maps: a: .*use .unsqueeze\(1\)"),
        (torch.rand(2, 3, 8, 8), {"a": torch.rand(2, 1, 4, 4)}, r"maps: a: expected one map a pixel"),
    ],
)
def test_what_cannot_be_shown(images, maps, message):
    with pytest.raises(ValueError, match=message):
        overlay_figure(images, maps)


def test_colors_without_a_transform_that_tells_them():
    images = torch.randn(2, 3, 8, 8)
    shown = shown_colors(object(), images)
    assert (shown.amin((1, 2, 3)) == 0).all()
    torch.testing.assert_close(shown.amax((1, 2, 3)), torch.ones(2))
    assert torch.equal(shown_colors(SimpleNamespace(transform=lambda x: x), shown), shown)


def test_overlay_shows_where_the_map_is_high():
    picture, values = np.full((4, 4, 3), 0.5), np.zeros((4, 4))
    values[1, 2] = 1
    shown = overlay(picture, values)
    assert shown.sum(2).argmax() == 6
    assert np.isfinite(overlay(picture, values * np.nan)).all()
