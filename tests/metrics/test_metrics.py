"""The metric classes: sums over batches and processes, counts, and torchmetrics' contract."""

import pickle

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from torchmetrics import MetricCollection

import refinecam.metrics as metrics
from refinecam.attribution import LayerCAM, RefineCAM
from refinecam.metrics import ARCC, CosineSimilarity, MapEvaluation, PerImageMean, parse_scores, register
from tests.conftest import TinyNet

CAM = RefineCAM(LayerCAM(), layers=["stem", "deep"])
CLASSES = [
    kind
    for kind in vars(metrics).values()
    if isinstance(kind, type) and issubclass(kind, PerImageMean) and kind is not PerImageMean
]


def evaluate(rows, spoil=()):
    """Evaluation of some rows of a fixed batch; the maps of the rows in ``spoil`` are constant."""
    torch.manual_seed(0)
    model = TinyNet().eval()
    images = torch.randn(7, 3, 24, 32, generator=torch.Generator().manual_seed(1))
    targets = torch.arange(7) % 6
    maps = CAM(model, images, targets)
    maps[list(spoil)] = 0.25
    masks = (images[:, :1] > 0).float()
    return MapEvaluation(
        model, images[rows], targets[rows], maps[rows], CAM, masks=masks[rows], index=torch.arange(7)[rows]
    )


@pytest.mark.parametrize("kind", CLASSES)
class TestEveryMetric:
    def test_mean_over_batches_is_the_mean_of_the_images(self, kind):
        metric = kind()
        for rows in (slice(0, 3), slice(3, 6), slice(6, 7)):
            metric.update(evaluate(rows))
        scores = metric.per_image(evaluate(slice(None))).double().numpy()
        assert metric.compute().item() == pytest.approx(scores.mean(), abs=1e-6)
        summary = metric.summary()
        assert summary.mean == metric.compute().item()
        assert summary.std == pytest.approx(np.std(scores), abs=1e-6)
        assert summary[2:] == (7, 0, 0)

    def test_constant_maps_are_counted_as_undefined(self, kind):
        metric = kind()
        metric.update(evaluate(slice(None), spoil=(2, 5)))
        metric.skip(4)
        good = metric.per_image(evaluate([0, 1, 3, 4, 6]))
        summary = metric.summary()
        assert summary[2:] == (5, 2, 4)
        assert summary.mean == pytest.approx(good.mean().item(), abs=1e-6)

    def test_nothing_scored(self, kind):
        metric = kind()
        metric.update(evaluate([2], spoil=[2]))
        assert metric.compute().isnan()
        assert metric.summary()[2:] == (0, 1, 0)

    def test_contract(self, kind):
        metric = kind()
        metric.update(evaluate(slice(0, 2)))
        assert isinstance(metric.higher_is_better, bool)
        copies = [metric.clone(), pickle.loads(pickle.dumps(metric))]
        assert all(copy.compute() == metric.compute() for copy in copies)
        assert not metric.state_dict()
        assert not list(metric.children())  # no network inside
        value = metric(evaluate(slice(2, 4)))  # forward gives the batch's own mean
        assert value == pytest.approx(metric.per_image(evaluate(slice(2, 4))).mean().item(), abs=1e-6)
        metric.reset()
        assert metric.scored == 0


class First(PerImageMean):
    """The first pixel of each map."""

    higher_is_better = True

    def score(self, evaluation):
        return evaluation.maps[:, 0, 0, 0]


class Last(PerImageMean):
    """The last pixel of each map."""

    higher_is_better = True

    def score(self, evaluation):
        return evaluation.maps[:, 0, -1, -1]


@pytest.mark.parametrize("compute_groups", [False, True])
def test_metrics_that_tie_on_the_first_batch(compute_groups):
    """They must not be merged; the other setting shows that this is no idle danger."""
    collection = MetricCollection([First(), Last()], compute_groups=compute_groups)
    model, images, targets = torch.nn.Identity(), torch.zeros(1, 3, 2, 2), torch.zeros(1, dtype=torch.int64)
    for values in ([[0.5, 0.0], [0.0, 0.5]], [[0.0, 0.0], [0.0, 1.0]]):
        collection.update(MapEvaluation(model, images, targets, torch.tensor([[values]])))
    found = {name: value.item() for name, value in collection.compute().items()}
    assert (found == {"First": 0.25, "Last": 0.75}) is not compute_groups


def test_shared_parts_are_computed_once():
    evaluation = evaluate(slice(None))
    calls = []
    method, evaluation.method = evaluation.method, lambda *args: calls.append(1) or method(*args)
    sizes = []
    evaluation.model.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    for kind in CLASSES:
        metric = kind()
        metric.update(evaluation)
        metric.per_image(evaluation)
    assert len(calls) == 1
    # the images, masked, their second maps, 8 copies for ROAD, 21 for insertion and as many for deletion
    assert sum(sizes) == 7 * (1 + 1 + 1 + 8 + 21 + 21)


def test_missing_parts_are_asked_for():
    evaluation = evaluate(slice(0, 1))
    evaluation.method = evaluation._masks = None
    with pytest.raises(ValueError, match="method: Coherency, ADCC and ARCC"):
        ARCC().update(evaluation)
    with pytest.raises(ValueError, match="masks: this score compares with the ground truth"):
        CosineSimilarity().update(evaluation)


def _process(rank, world, folder):
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    metric = ARCC()
    for row in range(rank, 7, world):
        metric.update(evaluate([row], spoil=[3]))
    metric.skip(rank)
    torch.save({"mean": metric.compute(), "summary": tuple(metric.summary())}, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_give_what_one_gives(tmp_path):
    mp.spawn(_process, (2, str(tmp_path)), nprocs=2)
    alone = ARCC()
    for row in range(7):
        alone.update(evaluate([row], spoil=[3]))
    alone.skip(1)
    for rank in (0, 1):
        found = torch.load(tmp_path / f"{rank}.pt")
        assert found["mean"].item() == pytest.approx(alone.compute().item(), abs=1e-12)
        assert found["summary"][2:] == alone.summary()[2:] == (6, 1, 1)


def test_a_taken_name_is_refused():
    with pytest.raises(ValueError, match=r"name: 'road' is refinecam.metrics.road's already"):
        register("road")(type("Mine", (PerImageMean,), {"__module__": __name__}))


def test_title_has_the_options_that_are_not_the_defaults():
    assert [score.title for score in parse_scores("road, insertion(steps=50), arcc(percentiles=(10, 50))")] == [
        *("road", "insertion(steps=50)", "arcc(percentiles=(10, 50))")
    ]
