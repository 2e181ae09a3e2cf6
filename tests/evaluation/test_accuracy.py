import numpy as np
import pandas as pd
import pytest
import torch

from refinecam.evaluation.accuracy import (
    NEIGHBORS,
    accuracy_data,
    accuracy_markdown,
    accuracy_rows,
    nearest_neighbors,
    prediction_rows,
)

BANDS = ((80, 100), (20, 25))


@pytest.fixture
def predictions():
    """600 images of 3 classes; each 20th is wrong; the second factor tells the label."""
    rng = np.random.default_rng(0)
    label = np.arange(600) % 3
    predicted = np.where(np.arange(600) % 20 == 0, (label + 1) % 3, label)
    batch = {
        "index": torch.arange(600),
        "label": torch.from_numpy(label),
        "band": torch.arange(600) // 300,
        "factors": {
            "place": torch.from_numpy(rng.random((600, 2))),
            "color": torch.from_numpy(label[:, None] + 0.1 * rng.random((600, 3))),
        },
    }
    controls = {"removed": rng.integers(0, 3, 600), "leaking": label, "gray": predicted}
    tensors = {name: torch.from_numpy(classes) for name, classes in controls.items()}
    return pd.DataFrame(prediction_rows(batch, torch.from_numpy(predicted), tensors, BANDS))


def test_rows_equal_their_definition(predictions):
    expected = {"removed": "chance", "leaking": "chance", "gray": "same"}
    rows = accuracy_rows(predictions, ["a", "b", "c"], expected)
    table = {(row.group, row.name): row for row in rows}
    assert list(table) == [
        ("all", ""),
        *(("size", "80-100 px"), ("size", "20-25 px")),
        *(("class", "a"), ("class", "b"), ("class", "c")),
        *(("control", "removed"), ("control", "leaking"), ("control", "gray")),
        *(("told from", "place"), ("told from", "color")),
    ]
    assert table["all", ""].accuracy == pytest.approx(0.95)
    large = predictions[predictions["index"] < 300]
    assert table["size", "80-100 px"].accuracy == pytest.approx((large["label"] == large["predicted"]).mean())
    assert table["class", "b"].images == 200
    three_errors = 3 * np.sqrt(1 / 3 * 2 / 3 / 600)
    assert table["control", "removed"].low == pytest.approx(1 / 3 - three_errors)
    assert table["control", "removed"].high == pytest.approx(1 / 3 + three_errors)
    assert table["control", "gray"].low == pytest.approx(0.93)
    assert table["told from", "place"].images == 300  # the other half is what it is told from
    assert table["told from", "place"].high == pytest.approx(1 / 3 + 3 * np.sqrt(1 / 3 * 2 / 3 / 300))
    assert {key: row.as_expected for key, row in table.items() if row.as_expected is not None} == {
        ("control", "removed"): True,
        ("control", "leaking"): False,
        ("control", "gray"): True,
        ("told from", "place"): True,
        ("told from", "color"): False,
    }


def test_a_network_that_is_not_right_often_enough_is_told(predictions):
    for least, judged in (((0.9, 0.95), (True, True)), ((0.96, 0.96), (False, False)), (None, (None, None))):
        rows = accuracy_rows(predictions, ["a", "b", "c"], {}, least)
        table = {(row.group, row.name): row for row in rows}
        assert (table["all", ""].as_expected, table["size", "20-25 px"].as_expected) == judged
        assert table["size", "80-100 px"].as_expected is None
    assert accuracy_rows(predictions[:300], ["a", "b", "c"], {}, (0.9, 0.9))[1].as_expected is None  # of one band alone
    judged = [accuracy_rows(predictions[:n], ["a", "b", "c"], {}, (0.99, 0.9))[0].as_expected for n in (299, 300)]
    assert judged == [None, False]
    few = accuracy_rows(predictions[:49], ["a", "b", "c"], {"removed": "chance", "gray": "same"}, (0.99, 0.99))
    assert {row.as_expected for row in few} == {None}
    assert "Fewer than 50 images are too few to say" in accuracy_markdown(few)
    assert "Fewer" not in accuracy_markdown(rows)


def test_the_smallest_band_has_the_smallest_diameters():
    bands = ["20-100 px", "20-25 px"] * 200
    table = pd.DataFrame({"label": 0, "predicted": 0, "band": bands})
    rows = accuracy_rows(table, ["a"], {}, (0.99, 0.975))
    assert [(row.name, row.as_expected) for row in rows[1:3]] == [("20-100 px", None), ("20-25 px", True)]


def test_neighbors_equal_their_definition():
    rng = np.random.default_rng(1)
    values, label = rng.random((90, 2)), rng.integers(0, 3, 90)
    scaled = values / values.std(0)
    expected = []
    for i in range(40, 90):
        order = sorted(range(40), key=lambda j: float(np.linalg.norm(scaled[i] - scaled[j])))
        votes = [label[j] for j in order[:NEIGHBORS]]
        expected.append(max(range(3), key=votes.count))
    assert nearest_neighbors(values, label, 40).tolist() == expected


def test_a_factor_without_information_is_rarely_blamed():
    """Three standard errors are exceeded about once in 740 times."""
    rng = np.random.default_rng(2)
    label = np.arange(1200) % 6
    limit = 1 / 6 + 3 * np.sqrt(1 / 6 * 5 / 6 / 600)
    told = [(nearest_neighbors(rng.random((1200, 2)), label, 600) == label[600:]).mean() for _ in range(40)]
    assert sum(share > limit for share in told) <= 1


def test_written_forms(predictions):
    rows = accuracy_rows(predictions, ["a", "b", "c"], {"removed": "chance"})
    data = accuracy_data(rows)
    assert data.columns.tolist() == ["style", "group", "name", "images", "accuracy", "low", "high", "as_expected"]
    text = accuracy_markdown(rows)
    assert "| all |  | 600 | 95.0% |  |  |" in text
    assert "| told from | color | 300 | 100.0% | 0.0% to 41.5% | **no** |" in text


def test_each_style_has_rows_of_its_own(predictions):
    styles = np.where(predictions["index"] % 2 == 0, "varied", "paper")
    rows = accuracy_rows(predictions.assign(style=styles), ["a", "b", "c"], {})
    for style in ("varied", "paper"):
        alone = accuracy_rows(predictions[styles == style].reset_index(drop=True), ["a", "b", "c"], {})
        assert [row._replace(style="") for row in rows if row.style == style] == alone
    text = accuracy_markdown(rows)
    assert text.index("Varied shapes:") < text.index("Paper shapes:")
    one = accuracy_rows(predictions.assign(style="paper"), ["a", "b", "c"], {})
    assert {row.style for row in one} == {""}


def test_too_few_images_for_a_factor_are_said(predictions):
    *_, place, color = accuracy_rows(predictions[:49], ["a", "b", "c"], {})
    assert (place.name, place.images, place.as_expected) == ("place", 0, None)
    assert np.isnan(color.accuracy)
    assert "| told from | color | 0 | needs 50 images |  |  |" in accuracy_markdown([color])
    assert accuracy_rows(predictions[:50], ["a", "b", "c"], {})[-1].images == 25


def test_data_without_bands_controls_and_factors():
    batch = {"index": torch.arange(4), "label": torch.tensor([0, 1, 1, 0])}
    rows = prediction_rows(batch, torch.tensor([0, 1, 0, 0]), {}, ())
    assert list(rows[0]) == ["index", "label", "predicted"]
    found = accuracy_rows(pd.DataFrame(rows), ["a", "b", "c"], {})
    assert [(row.group, row.accuracy) for row in found] == [("all", 0.75), ("class", 1.0), ("class", 0.5)]
