"""Who gets which sample, and what a worker may use."""

import cv2
import numpy as np
import pytest
import torch

from refinecam.data import sampling
from refinecam.data.sampling import evaluation_loader, training_loader


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize(("count", "world", "batch_size"), [(24, 2, 4), (26, 2, 4), (7, 2, 8), (50, 3, 4)])
def test_processes_train_on_different_samples_for_as_many_steps(monkeypatch, count, world, batch_size, shuffle):
    seen = []
    for rank in range(world):
        monkeypatch.setattr(sampling, "_processes", lambda rank=rank: (world, rank))
        loader = sampling.training_loader(torch.arange(count), batch_size, shuffle=shuffle)
        seen.append([batch.tolist() for batch in loader])
    assert len({len(batches) for batches in seen}) == 1
    found = [i for batches in seen for batch in batches for i in batch]
    assert len(set(found)) == len(found)
    assert count - len(found) < world * min(batch_size, count // world)
    if not shuffle:  # step by step, the processes' batches are one larger batch of a single process
        steps = [sorted(i for batch in step for i in batch) for step in zip(*seen, strict=True)]
        assert [i for step in steps for i in step] == list(range(len(found)))


def test_shuffled_epochs_differ():
    loader = sampling.training_loader(torch.arange(24), 24, shuffle=True)
    (first,) = loader
    loader.sampler.set_epoch(1)
    (second,) = loader
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(24))
    assert first.tolist() != second.tolist()


@pytest.mark.parametrize(("count", "world"), [(7, 2), (6, 4), (5, 5), (2, 3)])
def test_every_sample_once_on_any_number_of_processes(monkeypatch, count, world):
    seen = []
    for rank in range(world):
        monkeypatch.setattr(sampling, "_processes", lambda rank=rank: (world, rank))
        batches = list(evaluation_loader(range(count), 2))
        assert batches  # without any, Lightning leaves the process out of the test, and the others wait for it
        seen += [i for batch in batches if batch != {} for i in batch.tolist()]
    assert sorted(seen) == list(range(count))


def test_more_processes_than_samples_to_train_on(monkeypatch):
    monkeypatch.setattr(sampling, "is_initialized", lambda: True)
    monkeypatch.setattr(sampling, "get_world_size", lambda: 3)
    monkeypatch.setattr(sampling, "get_rank", lambda: 0)
    with pytest.raises(ValueError, match="2 samples cannot be dealt to 3 processes"):
        training_loader(range(2), 1)


class Threads(torch.utils.data.Dataset):
    """How many threads OpenCV has where the sample is drawn."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        cv2.GaussianBlur(np.zeros((512, 512, 3), np.uint8), (5, 5), 1)
        return cv2.getNumThreads()


@pytest.mark.parametrize("loader", [evaluation_loader, training_loader])
def test_opencv_has_one_thread_in_a_worker(loader):
    cv2.setNumThreads(4)
    try:
        cv2.GaussianBlur(np.zeros((512, 512, 3), np.uint8), (5, 5), 1)  # the threads start
        assert torch.cat(list(loader(Threads(), 1, num_workers=1))).tolist() == [1, 1]
    finally:
        cv2.setNumThreads(-1)
