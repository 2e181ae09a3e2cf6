from types import SimpleNamespace

import pytest
from torch.utils.data import DataLoader, DistributedSampler

from refinecam.core.errors import InputError
from refinecam.data.sampling import evaluation_loader
from refinecam.evaluation import Evaluator


def start(loader):
    model = Evaluator(checkpoint="shapes-resnet18", methods="RandomCAM")
    model._trainer = SimpleNamespace(test_dataloaders=loader)
    model.on_test_start()


def test_images_that_would_count_twice_are_refused():
    """As Lightning replaces the sampler of a loader that is not ours, on two processes."""
    with pytest.raises(InputError, match="datamodule: 5 images cannot be dealt evenly to 2 processes"):
        start(DataLoader(range(5), sampler=DistributedSampler(range(5), 2, 0)))
    start(DataLoader(range(6), sampler=DistributedSampler(range(6), 2, 0)))
    start(evaluation_loader(range(5), 1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scores": "beauty"}, "scores: there is no 'beauty'; there are"),
        ({"scores": []}, "scores: expected at least one"),
        ({"scores": "arcc, arcc"}, "scores: 'arcc' is there twice"),
        (
            {"scores": "road(percentiles=20)"},
            r"percentiles: expected numbers in \(0, 100\), such as \(20, 40\), got 20",
        ),
        ({"checkpoint": None}, "checkpoint: name trained weights, a backbone"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(InputError, match=message):
        Evaluator(**{"checkpoint": "shapes-resnet18", "methods": "RandomCAM", **options})
