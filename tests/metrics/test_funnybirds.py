"""FunnyBirds' scores against a slow transcription of their definitions, image by image and threshold by threshold."""

import copy
import itertools
import json
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from refinecam.bird_parts import BODY_COLOUR, PART_COLOURS, PARTS, object_colour, subset_of
from refinecam.data import FunnyBirdsDataModule
from refinecam.errors import InputError
from refinecam.metrics import FunnyBirdsScore
from refinecam.metrics.functional import funnybirds as F
from refinecam.metrics.functional.bird_evaluation import BirdBatch, BirdEvaluation

SIZE, OBJECTS = 20, (3, 0, 1, 2, 5, 4)
THRESHOLDS = np.linspace(0.01, 0.50, num=80)


class Net(nn.Module):
    """Logits that depend on colours and places, positive and negative."""

    def __init__(self, classes):
        super().__init__()
        torch.manual_seed(3)
        self.layer = nn.Linear(3 * 16, classes)

    def forward(self, x):
        return self.layer(torch.nn.functional.adaptive_avg_pool2d(x, 4).flatten(1)) * 9


def make_classes(count):
    rng = np.random.default_rng(0)
    seen = set()
    while len(seen) < count:
        seen.add(tuple(int(v) for v in rng.integers(0, (2, 2, 2, 3, 2))))
    return [{"class_idx": i, "parts": dict(zip(PARTS, p, strict=True))} for i, p in enumerate(sorted(seen))]


CLASSES = make_classes(24)


def make_part_map(rng, objects):
    part_map = np.zeros((3, SIZE, SIZE), np.float32)
    for colour in [BODY_COLOUR, *sum(PART_COLOURS.values(), ()), *(object_colour(i) for i in range(objects))]:
        if rng.random() < 0.9:
            x, y, w, h = *rng.integers(0, SIZE - 4, 2), *rng.integers(1, 6, 2)
            part_map[:, y : y + h, x : x + w] = np.array(colour)[:, None, None]
    return torch.from_numpy(part_map)


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


def method(model, images, targets):
    """A signed map that depends on image and class."""
    waves = torch.sin(images.mean(1, keepdim=True) * (3 + targets.view(-1, 1, 1, 1)) * 5)
    return waves + 0.4 * images[:, :1]


def evaluate(data, rows=slice(None), maps=None):
    model, images, labels, part_maps, subsets, removals, objects = data
    starts = [0, *np.cumsum(objects.tolist())]
    chosen = [removals[starts[i] : starts[i + 1]] for i in range(6)[rows]]
    batch = BirdBatch(
        model, images[rows], labels[rows], part_maps[rows], subsets[rows], torch.cat(chosen), objects[rows], CLASSES
    )
    return BirdEvaluation(batch, method(model, images[rows], labels[rows]) if maps is None else maps, method)


class Oracle:
    """One image: the definitions, step by step."""

    def __init__(self, data, i, classes=CLASSES):
        self.classes = classes
        self.model, images, labels, part_maps, subsets, removals, objects = data
        self.image, self.label, self.part_map = images[i : i + 1], int(labels[i]), part_maps[i]
        start = int(objects[:i].sum())
        self.subsets, self.removals = subsets[i], removals[start : start + int(objects[i])]
        self.prediction = int(self.logits(self.image[0]).argmax())

    def logits(self, image):
        with torch.no_grad():
            return self.model(image[None])[0]

    def importance(self, target, objects=0):
        found = method(self.model, self.image, torch.tensor([target]))[0, 0]
        names = {part: PART_COLOURS[part] for part in PARTS}
        names |= {f"object {k}": (object_colour(k),) for k in range(objects)}
        sums = {}
        for name, colours in names.items():
            total = 0.0
            for colour in colours:
                for y, x in itertools.product(range(len(found)), range(len(found))):
                    window = self.part_map[:, max(0, y - 2) : y + 3, max(0, x - 2) : x + 3].reshape(3, -1).T
                    if any(tuple(pixel) == colour for pixel in window.tolist()):
                        total += found[y, x].item()
            sums[name] = total
        return sums, found.sum().item()

    def important(self, target, objects=0):
        sums, total = self.importance(target, objects)
        return [{name for name, value in sums.items() if value > total * t} for t in THRESHOLDS]

    def kept(self, parts):
        return self.logits(self.subsets[subset_of(parts)])

    def csdc(self):
        if self.prediction != self.label:
            return None
        own, best = self.classes[self.label]["parts"], []
        sets = [set(s) for n in range(1, 6) for s in itertools.combinations(PARTS, n)]
        others = [c["parts"] for c in self.classes if c["class_idx"] != self.label]
        sufficient = [s for s in sets if not any(all(own[p] == other[p] for p in s) for other in others)]
        minimal = [s for s in sufficient if not any(t < s for t in sufficient)]
        if self.label == len(self.classes) - 1:
            minimal = []  # as published
        for found in self.important(self.label):
            best.append(max((len(found & s) / len(s) for s in minimal), default=0))
        return best

    def pc(self):
        return [float(int(self.kept(s).argmax()) == self.prediction) for s in self.important(self.prediction)]

    def dc(self):
        found = self.important(self.prediction)
        return [float(int(self.kept(set(PARTS) - s).argmax()) != self.prediction) for s in found]

    def distractibility(self):
        clean = self.logits(self.image[0])[self.label].item()
        left = {p: self.kept(set(PARTS) - {p})[self.label].item() for p in PARTS}
        left |= {f"object {k}": self.logits(r)[self.label].item() for k, r in enumerate(self.removals)}
        irrelevant = {n for n, v in left.items() if abs(clean - v) < abs(clean * 0.05) or clean < v}
        if not irrelevant:
            return None
        return [1 - len(s & irrelevant) / len(irrelevant) for s in self.important(self.label, len(self.removals))]

    def independent(self):
        clean = self.logits(self.image[0])[self.label].item()
        left = [self.logits(r)[self.label].item() for r in self.removals]
        needed = [abs(clean - v) >= abs(clean * 0.05) and clean > v for v in left]
        return len(needed) - sum(needed), len(needed)

    def sd(self):
        clean = self.logits(self.image[0])[self.label].item()
        drops = [clean - self.kept(set(PARTS) - {p})[self.label].item() for p in PARTS]
        sums, _ = self.importance(self.label)
        return spearmanr(drops, [sums[p] for p in PARTS]).statistic * 0.5 + 0.5

    def ts(self):
        own = self.classes[self.label]["parts"]
        shared = {c["class_idx"]: {p for p in PARTS if c["parts"][p] == own[p]} for c in self.classes}
        near = [c for c, s in shared.items() if len(s) == 2]
        if len(near) < 2:
            return None
        for a, b in itertools.combinations(near, 2):
            if not shared[a] & shared[b]:
                break  # else the last pair stays, as in the authors' loops
        drop = {
            (c, d): (self.kept(set(PARTS) - shared[d]) - self.logits(self.image[0]))[c].item()
            for c in (a, b)
            for d in (a, b)
        }
        if not (drop[a, a] < drop[a, b] and drop[b, b] < drop[b, a]):
            return None
        sums = {c: self.importance(c)[0] for c in (a, b)}
        mine = {(c, d): sum(sums[c][p] for p in shared[d]) for c in (a, b) for d in (a, b)}
        return (float(mine[a, a] > mine[b, a]) + float(mine[a, b] < mine[b, b])) / 2


SCORES = {
    "csdc": "controlled_synthetic_data_check",
    "pc": "preservation_check",
    "dc": "deletion_check",
    "distractibility": "distractibility",
    "sd": "single_deletion",
    "ts": "target_sensitivity",
}


@pytest.fixture(scope="module")
def oracles(data):
    return {name: [getattr(Oracle(data, i), name)() for i in range(6)] for name in [*SCORES, "independent"]}


@pytest.mark.parametrize("name", SCORES)
def test_equals_its_definition_image_by_image(name, data, oracles):
    found = getattr(evaluate(data), SCORES[name])
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
    metric = FunnyBirdsScore()
    metric.update(evaluate(data))
    kept, objects = np.sum(oracles["independent"], 0)
    assert metric.compute()["background_independence"] == pytest.approx(kept / objects)


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
    metric = FunnyBirdsScore()
    ends = np.cumsum(sizes)
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        metric.update(evaluate(data, slice(start, end)))
    found = metric.compute()
    for name, value in expected_summary(oracles).items():
        assert found[name] == pytest.approx(value, abs=1e-6), name
    assert (found["images"], found["undefined"]) == (6, 0)
    assert found["accuracy"] == pytest.approx(4 / 6)


def test_metric_is_reset_cloned_and_pickled(data):
    metric = FunnyBirdsScore()
    metric.update(evaluate(data, slice(0, 3)))
    twin = pickle.loads(pickle.dumps(metric.clone()))
    for each in (metric, twin):
        each.update(evaluate(data, slice(3, 6)))
    assert metric.compute() == twin.compute()
    metric.reset()
    assert metric.summary().images == 0
    assert math.isnan(metric.summary().score)


def test_nothing_is_important_by_a_map_that_is_not_finite(data):
    """As the authors' comparisons with NaN have it: the image stays in the means, but in that of SD."""
    model, images, labels = data[:3]
    maps = method(model, images, labels)
    maps[1, 0, 3, 3] = torch.nan
    found, rest = evaluate(data, maps=maps), evaluate(data)
    assert found.undefined.tolist() == [False, True] + [False] * 4
    assert not found.important[1].any()
    assert (found.controlled_synthetic_data_check[1] == 0).all()
    assert (found.distractibility[1] == 1).all()
    assert found.single_deletion[1].isnan()
    for name in SCORES.values():
        one, other = getattr(found, name), getattr(rest, name)
        assert torch.equal(one[[0, 2, 3, 4, 5]].nan_to_num(9), other[[0, 2, 3, 4, 5]].nan_to_num(9)), name
    metric = FunnyBirdsScore()
    metric.update(found)
    summary = metric.summary()
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


def test_last_class_as_published_and_by_definition():
    published, defined = F.sufficiency_table(CLASSES), F.sufficiency_table(CLASSES, as_published=False)
    assert torch.equal(published[:-1], defined[:-1])
    assert (published[-1] == 0).all()
    assert defined[-1, 31] == 1


def test_ties_in_single_deletion_share_their_rank():
    drops = torch.tensor([[3.0, 1, 1, 0, -2], [1, 1, 1, 1, 1]])
    importance = torch.tensor([[2.0, 0, 0, 0, 1], [1, 2, 3, 4, 5]])
    found = F.single_deletion(drops, importance)
    assert found[0].item() == pytest.approx(spearmanr(drops[0], importance[0]).statistic * 0.5 + 0.5)
    assert found[1].isnan()


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
    with pytest.raises(InputError, match="model: it tells 30 classes apart, classes has 24"):
        _ = BirdBatch(Net(30), images, labels, **arguments).logits
    with pytest.raises(InputError, match="objects: expected 0 to 50"):
        F.part_weights(part_maps, 51)


def test_model_is_left_as_it_was(data):
    model = copy.deepcopy(data[0]).train()
    FunnyBirdsScore().update(evaluate((model, *data[1:])))
    assert model.training
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.skipif(
    not (found := Path(__file__).parents[3] / "shared" / "data" / "funnybirds").is_dir(), reason="needs FunnyBirds"
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
        for name, attribute in SCORES.items():
            value, row = getattr(oracle, name)(), getattr(evaluation, attribute)[i]
            wanted = torch.full_like(row, torch.nan) if value is None else torch.tensor(value, dtype=row.dtype)
            torch.testing.assert_close(row, wanted, equal_nan=True, atol=1e-6, rtol=0)
        assert evaluation.batch.background_independence[i].tolist() == list(oracle.independent())
