import numpy as np
import pandas as pd
import pytest
import torch

from refinecam.evaluation.accuracy import NEIGHBORS, accuracy_markdown, accuracy_table, prediction_rows, worth_showing

CLASSES = ["a", "b", "c"]


@pytest.fixture
def predictions():
    """600 images of 3 classes; each 20th is wrong; the second factor predicts the label."""
    rng = np.random.default_rng(0)
    label = np.arange(600) % 3
    predicted = np.where(np.arange(600) % 20 == 0, (label + 1) % 3, label)
    batch = {
        "index": torch.arange(600),
        "label": torch.from_numpy(label),
        "factors": {
            "place": torch.from_numpy(rng.random((600, 2))),
            "color": torch.from_numpy(label[:, None] + 0.1 * rng.random((600, 3))),
        },
    }
    controls = {"removed": rng.integers(0, 3, 600), "leaking": label, "gray": predicted}
    tensors = {name: torch.from_numpy(classes) for name, classes in controls.items()}
    return pd.DataFrame(
        prediction_rows(batch, torch.from_numpy(predicted), tensors, {"band": ["80-100 px"] * 300 + ["20-25 px"] * 300})
    )


def rows_of(table):
    return {(row.group, row.name_): row for row in table.rename(columns={"name": "name_"}).itertuples()}


def test_rows_equal_their_definition(predictions):
    expected = {"removed": "chance", "leaking": "chance", "gray": "same"}
    table = rows_of(accuracy_table(predictions, CLASSES, expected))
    assert list(table) == [
        ("all", ""),
        *(("size", "80-100 px"), ("size", "20-25 px")),
        *(("class", "a"), ("class", "b"), ("class", "c")),
        *(("control", "removed"), ("control", "leaking"), ("control", "gray")),
        *(("predicted from", "place"), ("predicted from", "color")),
    ]
    assert table["all", ""].accuracy == pytest.approx(0.95)
    large = predictions[predictions["index"] < 300]
    assert table["size", "80-100 px"].accuracy == pytest.approx((large["label"] == large["predicted"]).mean())
    assert table["class", "b"].images == 200
    three_errors = 3 * np.sqrt(1 / 3 * 2 / 3 / 600)
    assert table["control", "removed"].low == pytest.approx(1 / 3 - three_errors)
    assert table["control", "removed"].high == pytest.approx(1 / 3 + three_errors)
    assert table["control", "gray"].low == pytest.approx(0.93)
    assert table["predicted from", "place"].images == 300  # the other half is what it is predicted from
    assert table["predicted from", "place"].high == pytest.approx(1 / 3 + 3 * np.sqrt(1 / 3 * 2 / 3 / 300))
    assert {key: row.as_expected for key, row in table.items() if row.as_expected is not None} == {
        ("control", "removed"): True,
        ("control", "leaking"): False,
        ("control", "gray"): True,
        ("predicted from", "place"): True,
        ("predicted from", "color"): False,
    }


def test_least_accuracy_is_judged_from_enough_images(predictions):
    for least, judged in (((0.9, 0.95), (True, True)), ((0.96, 0.96), (False, False)), (None, (None, None))):
        table = accuracy_table(predictions, CLASSES, {}, least)
        rows = rows_of(table)
        assert (rows["all", ""].as_expected, rows["size", "20-25 px"].as_expected) == judged
        assert rows["size", "80-100 px"].as_expected is None
    one_band = rows_of(accuracy_table(predictions[:300], CLASSES, {}, (0.9, 0.9)))
    assert one_band["size", "80-100 px"].as_expected is None
    judged = [accuracy_table(predictions[:n], CLASSES, {}, (0.99, 0.9))["as_expected"][0] for n in (299, 300)]
    assert judged == [None, False]
    few = accuracy_table(predictions[:49], CLASSES, {"removed": "chance", "gray": "same"}, (0.99, 0.99))
    assert set(few["as_expected"]) == {None}
    assert "predicted from" not in set(few["group"])
    assert accuracy_table(predictions[:50], CLASSES)["images"].iloc[-1] == 25
    assert "Fewer than 50 images are too few to judge" in accuracy_markdown(few)
    assert "Fewer" not in accuracy_markdown(table)


def test_smallest_band_has_the_smallest_sizes():
    table = pd.DataFrame({"label": 0, "predicted": 0, "band": ["80-100 px", "20-25 px"] * 200})
    rows = accuracy_table(table, ["a"], {}, (0.99, 0.975))
    assert rows["name"].tolist()[1:3] == ["80-100 px", "20-25 px"]
    assert rows["as_expected"].tolist()[1:3] == [None, True]


def test_prediction_from_a_factor_equals_its_definition():
    rng = np.random.default_rng(1)
    values, label = rng.random((90, 2)), rng.integers(0, 3, 90)
    scaled, right = values / values.std(0), 0
    for i in range(45, 90):
        order = sorted(range(45), key=lambda j: float(np.linalg.norm(scaled[i] - scaled[j])))
        votes = [label[j] for j in order[:NEIGHBORS]]
        right += max(range(3), key=votes.count) == label[i]
    table = pd.DataFrame({"label": label, "predicted": label, "factor: place": values.tolist()})
    assert accuracy_table(table, CLASSES)["accuracy"].iloc[-1] == pytest.approx(right / 45)


def test_a_factor_without_information_is_rarely_blamed():
    """Three standard errors are exceeded about once in 740 times."""
    rng = np.random.default_rng(2)
    label = np.arange(1200) % 6
    factors = {f"factor: {i}": rng.random((1200, 2)).tolist() for i in range(40)}
    found = accuracy_table(pd.DataFrame({"label": label, "predicted": label, **factors}))
    judged = found.loc[found["group"] == "predicted from", "as_expected"]
    assert len(judged) == 40
    assert (~judged.astype(bool)).sum() <= 1


def test_markdown_has_percentages_and_verdicts(predictions):
    text = " ".join(accuracy_markdown(accuracy_table(predictions, CLASSES, {"removed": "chance"})).split())
    assert "| all | | 600 | 95.0% | | |" in text
    assert "| predicted from | color | 300 | 100.0% | 0.0% to 41.5% | **no** |" in text


def test_each_style_has_rows_of_its_own(predictions):
    styles = np.where(predictions["index"] % 2 == 0, "varied", "paper")
    table = accuracy_table(predictions.assign(style=styles), CLASSES)
    for style in ("varied", "paper"):
        alone = accuracy_table(predictions[styles == style].reset_index(drop=True), CLASSES)
        own = table[table["style"] == style].reset_index(drop=True)
        pd.testing.assert_frame_equal(own.drop(columns="style"), alone.drop(columns="style"))
    text = accuracy_markdown(table)
    assert text.index("Varied shapes:") < text.index("Paper shapes:")
    assert set(accuracy_table(predictions.assign(style="paper"), CLASSES)["style"]) == {""}


def test_data_without_bands_controls_and_factors():
    batch = {"index": torch.arange(4), "label": torch.tensor([0, 1, 1, 0])}
    rows = prediction_rows(batch, torch.tensor([0, 1, 0, 0]), {}, {})
    assert list(rows[0]) == ["index", "label", "predicted"]
    found = accuracy_table(pd.DataFrame(rows))
    assert found[["group", "accuracy"]].to_numpy().tolist() == [["all", 0.75], ["class", 1.0], ["class", 0.5]]


def test_many_classes_are_in_the_table_alone():
    labels = [i % 60 for i in range(120)]
    table = accuracy_table(pd.DataFrame({"label": labels, "predicted": labels}), [f"class {i}" for i in range(60)])
    assert table["group"].eq("class").sum() == 60
    assert worth_showing(table)["group"].tolist() == ["all"]
    assert "class 7" not in accuracy_markdown(table)
    assert worth_showing(table[:40]).equals(table[:40])
