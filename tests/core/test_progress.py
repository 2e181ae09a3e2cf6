from datetime import timedelta
from types import SimpleNamespace

import pytest
from lightning.pytorch.callbacks import Timer

from refinecam.core.progress import ends, training_progress


def trainer(**known):
    usual = {"max_epochs": -1, "max_steps": -1, "current_epoch": 3, "global_step": 70, "num_training_batches": 20}
    strategy = SimpleNamespace(broadcast=lambda value: value)
    return SimpleNamespace(**{**usual, "callbacks": [], "strategy": strategy, **known})


class Clock(Timer):
    def time_elapsed(self, stage="train"):
        return 30.0


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({}, 0.0),
        ({"max_epochs": 10}, 0.325),
        ({"max_steps": 100}, 0.7),
        ({"max_epochs": 10, "max_steps": 100}, 0.7),
        ({"callbacks": [Clock(timedelta(seconds=40))]}, 0.75),
        ({"callbacks": [Clock()], "max_epochs": 5}, 0.65),
        ({"max_steps": 50}, 1.0),
    ],
)
def test_progress_is_that_of_the_first_limit(known, expected):
    assert training_progress(trainer(**known), batch_idx=5) == pytest.approx(expected)
    assert ends(trainer(**known)) == bool(known)


def test_progress_before_the_first_batch_counts_whole_epochs():
    assert training_progress(trainer(max_epochs=10, num_training_batches=float("inf"))) == pytest.approx(0.3)


def test_progress_is_that_of_the_first_process():
    sent = []
    strategy = SimpleNamespace(broadcast=lambda value: sent.append(value) or 0.25)
    known = {"callbacks": [Clock(timedelta(seconds=40))], "strategy": strategy}
    assert training_progress(trainer(**known)) == 0.25
    assert sent == [0.75]
