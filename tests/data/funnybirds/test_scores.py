"""FunnyBirds' scores against a slow transcription of their definitions, image by image and threshold by threshold."""

import copy
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torchmetrics.functional import spearman_corrcoef

from refinecam.core.errors import InputError
from refinecam.data import FunnyBirdsDataModule
from refinecam.data.funnybirds import bird_rows, summarize_birds
from refinecam.data.funnybirds import scores as F
from refinecam.data.funnybirds.evaluation import BirdBatch, BirdEvaluation
from tests.data.funnybirds.interventions import (
    CLASSES,
    OBJECTS,
    SIZE,
    THRESHOLDS,
    Net,
    Oracle,
    evaluate,
    make_part_map,
    method,
)


@pytest.fixture(scope="module")
def data():
    """Six images, of which two are misclassified and one has no background object."""
    rng = np.random.default_rng(5)
    model = Net(len(CLASSES)).eval()
    images = torch.from_numpy(rng.random((6, 3, SIZE, SIZE), np.float32))
    part_maps = torch.stack([make_part_map(rng, k) for k in OBJECTS])
    with torch.no_grad():
        predicted = model(images).argmax(1)
    labels = torch.where(torch.arange(6) % 3 == 2, (predicted + 1) % len(CLASSES), predicted)
    change = torch.from_numpy(rng.random((6, 32, 3, SIZE, SIZE), np.float32)) - 0.5
    subsets = images[:, None] + change * torch.linspace(2, 0, 32)[:, None, None, None]
    subsets[:, -1] = images
    removals = images.repeat_interleave(torch.tensor(OBJECTS), 0)
    removals = removals + (torch.from_numpy(rng.random(removals.shape, np.float32)) - 0.5) * 0.3
    return model, images, labels, part_maps, subsets, removals, torch.tensor(OBJECTS)


SCORES = {
    "csdc": "controlled_synthetic_data_check",
    "pc": "preservation_check",
    "dc": "deletion_check",
    "distractibility": "distracted_share",
    "sd": "single_deletion",
    "ts": "target_sensitivity",
}


def found_by(evaluation, name):
    values = getattr(evaluation, SCORES[name])
    return 1 - values if name == "distractibility" else values


@pytest.fixture(scope="module")
def oracles(data):
    return {name: [getattr(Oracle(data, i), name)() for i in range(6)] for name in [*SCORES, "independent"]}


@pytest.mark.parametrize("name", SCORES)
def test_equals_its_definition_image_by_image(name, data, oracles):
    found = found_by(evaluate(data), name)
    expected = oracles[name]
    assert any(value is not None for value in expected)
    for row, value in zip(found, expected, strict=True):
        wanted = torch.full_like(row, torch.nan) if value is None else torch.tensor(value, dtype=row.dtype)
        torch.testing.assert_close(row, wanted, equal_nan=True, atol=1e-6 if name == "sd" else 1e-12, rtol=0)


def test_the_cases_are_not_all_alike(data, oracles):
    """Else an oracle that says yes to everything would do."""
    for name in ("csdc", "pc", "dc", "distractibility"):
        assert len({v for row in oracles[name] if row is not None for v in row}) > 1, name
    assert None in oracles["csdc"]
    assert None in oracles["ts"]
    assert len(set(oracles["sd"])) > 1


def test_background_independence_counts_objects(data, oracles):
    assert evaluate(data).batch.background_independence.tolist() == [list(pair) for pair in oracles["independent"]]
    summary = summarize_birds(bird_rows(evaluate(data)))
    kept, objects = np.sum(oracles["independent"], 0)
    assert summary.background_independence == pytest.approx(kept / objects)


def expected_summary(oracles):
    means = {
        name: np.mean([row for row in oracles[name] if row is not None], axis=0)
        for name in ("csdc", "pc", "dc", "distractibility")
    }
    best, chosen = -math.inf, -1
    for t in range(80):
        value = means["csdc"][t] / 3 + means["pc"][t] / 3 + means["dc"][t] / 3 + means["distractibility"][t]
        if value > best:
            best, chosen = value, t
    sd = np.mean([v for v in oracles["sd"] if not math.isnan(v)])
    ts = np.mean([v for v in oracles["ts"] if v is not None])
    return {
        **{name: value[chosen] for name, value in means.items()},
        "threshold": THRESHOLDS[chosen],
        "completeness": best / 2,
        "correctness": sd,
        "contrastivity": ts,
        "score": (best / 2 + sd + ts) / 3,
    }


@pytest.mark.parametrize("sizes", [(6,), (1, 1, 1, 1, 1, 1), (4, 2)])
def test_data_set_scores_do_not_depend_on_the_batches(sizes, data, oracles):
    ends = np.cumsum(sizes)
    slices = [slice(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    found = summarize_birds([row for rows in slices for row in bird_rows(evaluate(data, rows))])._asdict()
    for name, value in expected_summary(oracles).items():
        assert found[name] == pytest.approx(value, abs=1e-6), name
    assert (found["images"], found["undefined"]) == (6, 0)
    assert found["accuracy"] == pytest.approx(4 / 6)


def test_nothing_is_important_by_a_map_that_is_not_finite(data):
    """As the authors' comparisons with NaN have it: the image stays in the means, but in that of SD."""
    model, images, labels = data[:3]
    maps = method(model, images, labels)
    maps[1, 0, 3, 3] = torch.nan
    found, rest = evaluate(data, maps=maps), evaluate(data)
    assert found.undefined.tolist() == [False, True] + [False] * 4
    assert not found.important[1].any()
    assert (found.controlled_synthetic_data_check[1] == 0).all()
    assert (found.distracted_share[1] == 0).all()
    assert found.single_deletion[1].isnan()
    for name in SCORES.values():
        one, other = getattr(found, name), getattr(rest, name)
        assert torch.equal(one[[0, 2, 3, 4, 5]].nan_to_num(9), other[[0, 2, 3, 4, 5]].nan_to_num(9)), name
    summary = summarize_birds(bird_rows(found))
    assert (summary.images, summary.undefined) == (6, 1)
    assert summary.csdc_images == int((found.batch.predictions == labels).sum())
    assert summary.single_deletion_images == int(rest.single_deletion.isfinite().sum()) - 1


def test_equal_scenes_have_equal_logits(data):
    """A part that was hidden already changes nothing, to the last bit, whatever the batches."""
    model, images, labels, part_maps, subsets, removals, objects = data
    subsets, removals = subsets.clone(), removals.clone()
    for subset in range(32):  # tail (8) and wing (16) are hidden in the third image
        subsets[2, subset] = subsets[2, subset | 24]
    removals[3] = images[2]  # and so is its only object
    passed = []
    counting = copy.deepcopy(model)
    counting.register_forward_hook(lambda _, args, __: passed.append(len(args[0])))
    batch = BirdBatch(counting, images, labels, part_maps, subsets, removals, objects, CLASSES, chunk=5)
    logits = batch.scene_logits
    assert sum(passed) == 6 * 32 - 24  # images equal their scene with all parts
    for subset in range(32):
        assert torch.equal(logits[2, subset], logits[2, subset & 7])
    assert torch.equal(logits[:, 31], logits[:, 32])
    assert batch.without_object[2, 0] == batch.clean[2]
    assert batch.without_part[2, 3] == batch.without_part[2, 4] == batch.clean[2]


def test_constant_map_calls_nothing_important(data):
    evaluation = evaluate(data, maps=torch.zeros(6, 1, SIZE, SIZE))
    assert not evaluation.important.any()
    assert evaluation.single_deletion.isnan().all()
    assert not evaluation.undefined.any()


def test_ties_in_single_deletion_share_their_rank():
    drops = torch.tensor([[3.0, 1, 1, 0, -2], [1, 1, 1, 1, 1]])
    importance = torch.tensor([[2.0, 0, 0, 0, 1], [1, 2, 3, 4, 5]])
    found = F.single_deletion(drops, importance)
    assert found[0].item() == pytest.approx(spearmanr(drops[0], importance[0]).statistic * 0.5 + 0.5)
    assert found[1].isnan()
    # The reason for ranks of our own: torchmetrics calls it no correlation where there is nothing to rank.
    assert spearman_corrcoef(drops[1], importance[1]) == 0


def test_bad_input_is_named(data):
    model, images, labels, part_maps, subsets, removals, objects = data
    arguments = {"part_maps": part_maps, "subsets": subsets, "removals": removals, "objects": objects}
    arguments["classes"] = CLASSES
    for name, value, message in (
        ("part_maps", part_maps[:, :, 1:], "part_maps: expected shape"),
        ("subsets", subsets[:, 1:], "subsets: expected shape"),
        ("removals", removals[1:], "removals: expected shape"),
        ("classes", CLASSES[:2], "labels: expected 0 to 1"),
        ("classes", ["class 0"] * len(CLASSES), "classes: expected entries of classes.json"),
    ):
        with pytest.raises(InputError, match=message):
            BirdBatch(model, images, labels, **(arguments | {name: value}))
    batch = BirdBatch(model, images, labels, **arguments)
    with pytest.raises(InputError, match="maps: expected a float tensor"):
        BirdEvaluation(batch, torch.zeros(6, 3, SIZE, SIZE), method)
    with pytest.raises(InputError, match=r"targets: class 23 is not one of the model's 3 classes"):
        _ = BirdBatch(Net(3), images, labels, **arguments).logits
    with pytest.raises(InputError, match="model: it has 30 classes, classes has 24"):
        _ = BirdBatch(Net(30), images, labels, **arguments).logits
    with pytest.raises(InputError, match="objects: expected 0 to 50"):
        F.part_weights(part_maps, 51)


def test_model_is_left_as_it_was(data):
    model = copy.deepcopy(data[0]).train()
    bird_rows(evaluate((model, *data[1:])))
    assert model.training
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.skipif(
    not (found := Path(__file__).parents[4] / "shared" / "data" / "funnybirds").is_dir(), reason="needs FunnyBirds"
)
def test_every_class_of_funnybirds_has_a_pair():
    classes = json.loads((found / "classes.json").read_text())
    pairs = F.sensitivity_pairs(classes)
    assert (pairs >= 0).all()
    assert ((pairs[:, 2] & pairs[:, 3]) == 0).all()


@pytest.mark.skipif(not found.is_dir(), reason="needs FunnyBirds")
def test_equals_its_definition_on_original_birds():
    """At 32 px, where the transcription takes seconds; with hidden parts and signed maps."""
    module = FunnyBirdsDataModule(folder=str(found), image_size=32, interventions=True, test_size=3, batch_size=3)
    module.setup("test")
    (batch,) = module.test_dataloader()
    names = ("image", "label", "part_map", "subsets", "removals", "objects")
    data = (Net(50).eval(), *(batch[name] for name in names))
    evaluation = BirdEvaluation(
        BirdBatch(*data, module.bird_classes), method(data[0], batch["image"], batch["label"]), method
    )
    for i in range(3):
        oracle = Oracle(data, i, module.bird_classes)
        for name in SCORES:
            value, row = getattr(oracle, name)(), found_by(evaluation, name)[i]
            wanted = torch.full_like(row, torch.nan) if value is None else torch.tensor(value, dtype=row.dtype)
            torch.testing.assert_close(row, wanted, equal_nan=True, atol=1e-6, rtol=0)
        assert evaluation.batch.background_independence[i].tolist() == list(oracle.independent())
