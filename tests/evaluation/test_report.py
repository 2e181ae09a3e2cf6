import pandas as pd
import pytest

from refinecam.attribution import GradCAM, LayerCAM, RefineCAM
from refinecam.evaluation.report import summary_markdown, warn_of_unscored
from refinecam.evaluation.table import summarize, title_of

KEYS = [("GradCAM", "-1", ""), ("RefineCAM(LayerCAM)", "0", "product")]


def table(values=((0.25, 0.75), (0.125, 0.125)), skipped=(False, False)):
    """Two images, of two methods."""
    return pd.DataFrame(
        {"index": i, "method": m, "stage": s, "aggregator": a, "skipped": skipped[i], "road": v[i], "arcc": v[i] / 2}
        for i in range(2)
        for (m, s, a), v in zip(KEYS, values, strict=True)
    )


def test_summary_is_over_the_scored_images():
    summary = summarize(table(), ["road", "arcc"])
    assert summary["score"].tolist() == ["road", "arcc"] * 2
    assert summary["mean"].tolist() == [0.5, 0.25, 0.125, 0.0625]
    assert summary["std"].tolist() == [0.25, 0.125, 0, 0]
    assert summary[["scored", "undefined", "skipped"]].to_numpy().tolist() == [[2, 0, 0]] * 4
    nothing = float("nan")
    summary = summarize(table(((0.25, nothing), (nothing, nothing)), (False, True)), ["road"])
    assert summary[["scored", "undefined", "skipped"]].to_numpy().tolist() == [[1, 0, 1], [0, 1, 1]]


def test_summary_has_a_line_a_method_and_a_table_for_ground_truth():
    lines = summary_markdown(summarize(table(), ["road", "arcc"])).splitlines()
    assert [[cell.strip() for cell in line.strip("|").split("|")] for line in (lines[0], *lines[2:])] == [
        ["method", "stage", "road", "arcc", "scored", "undefined"],
        ["GradCAM", "-1", "0.500 ± 0.250", "0.250 ± 0.125", "2", "0"],
        ["RefineCAM(LayerCAM), product", "0", "0.125 ± 0.000", "0.062 ± 0.000", "2", "0"],
    ]
    both = summary_markdown(summarize(table(), ["road", "arcc"]), ["arcc"])
    assert both.index("With ground truth:") < both.index("arcc") < both.index("Without:") < both.index("road")


def test_title_is_the_methods_own():
    for method, key in zip((GradCAM(), RefineCAM(LayerCAM())), KEYS, strict=True):
        assert title_of(dict(zip(("method", "stage", "aggregator"), key, strict=True))) == method.title


@pytest.mark.parametrize(
    ("undefined", "skipped", "message"),
    [
        (0, 5, "no image was scored: 5 images are misclassified, and only right ones are explained$"),
        (3, 0, "no image was scored: every map is constant .* or its image has no object to compare it with$"),
        (3, 2, "no image was scored: 2 images are misclassified, .* and every other map is constant"),
        (0, 0, "no image was scored: there was none$"),
    ],
)
def test_warning_says_why_no_image_was_scored(undefined, skipped, message):
    numbers = {"mean": float("nan"), "std": float("nan"), "scored": 0, "undefined": undefined, "skipped": skipped}
    row = {"method": "GradCAM", "stage": "-1", "aggregator": "", "score": "road", **numbers}
    with pytest.warns(UserWarning, match=message):
        warn_of_unscored(pd.DataFrame([row]), [])
