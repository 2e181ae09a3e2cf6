"""Where memory runs out, fewer images go at once, on every way through a network, and the result is the same."""

import warnings

import pytest
import torch
from torch import nn

from refinecam.attribution import LIME, GradCAM, IntegratedGradients, RefineCAM, ScoreCAM
from refinecam.core import memory
from refinecam.core.errors import InputError
from refinecam.core.memory import chunk_size, in_room
from refinecam.metrics.functional import arcc


class Small(nn.Module):
    """A network on a device with room for a few images at once."""

    def __init__(self, network, room):
        super().__init__()
        self.network, self.room = network, room

    def forward(self, x):
        if len(x) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB\nmore of it")
        return self.network(x)


@pytest.fixture(autouse=True)
def room(monkeypatch):
    monkeypatch.setattr(memory, "ROOM", {})
    return memory.ROOM


def explain_and_score(cam):
    return lambda model, images, targets: arcc(model, images, targets, cam(model, images, targets), cam)


@pytest.mark.parametrize(
    "use",
    [
        GradCAM(stage="network.deep"),
        ScoreCAM(stage="network.deep"),
        IntegratedGradients(steps=6),
        IntegratedGradients(steps=6, chunk=6),
        LIME(samples=20, segments=4),
        explain_and_score(RefineCAM(GradCAM(), layers=["network.stem", "network.deep"])),
    ],
)
def test_result_is_that_of_all_at_once(use, tiny_net, images, targets, room):
    expected = use(Small(tiny_net, 10**6), images, targets)
    assert not room
    with pytest.warns(UserWarning, match="memory ran out at .* images at once; going on with .*GiB$") as said:
        found = use(Small(tiny_net, 2), images, targets)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    texts = [str(warning.message) for warning in said if "memory" in str(warning.message)]
    assert len(texts) == len(set(texts))
    with warnings.catch_warnings(action="error"):  # it is known from now on
        use(Small(tiny_net, 2), images, targets)


def test_one_image_that_does_not_fit_is_an_error(tiny_net, images, targets):
    with (
        pytest.warns(UserWarning, match="memory ran out"),
        pytest.raises(InputError, match="not enough memory for one of 24x32 pixels"),
    ):
        GradCAM(stage="network.deep")(Small(tiny_net, 0), images, targets)


def test_larger_images_than_those_for_which_memory_ran_out():
    """Room is counted in pixels; an image that has more than that is tried once."""

    def run(images):
        if images[:, 0].numel() > 3000:
            raise torch.OutOfMemoryError("out of memory")
        return images

    with pytest.warns(UserWarning, match="memory ran out at 4 images"):
        in_room(run, torch.zeros(4, 3, 32, 32))
    with pytest.raises(InputError, match="not enough memory for one of 64x64 pixels"):
        in_room(run, torch.zeros(1, 3, 64, 64))


def test_more_images_than_the_usual_chunk(tiny_net, images, targets, monkeypatch):
    monkeypatch.setitem(memory.USUAL, "cpu", 2 * 24 * 32)
    cam = GradCAM(stage="network.deep")
    expected = cam(Small(tiny_net, 9), images, targets)
    with pytest.warns(UserWarning, match="memory ran out at 5 images at once; going on with 2"):
        found = cam(Small(tiny_net, 3), images, targets)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert chunk_size(images, 100) == chunk_size(images) == 2


def test_other_errors_pass(images):
    def fail(images):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        in_room(fail, images)
    assert not memory.ROOM


def test_an_inner_part_that_needs_less_leaves_the_outer_work_whole(images):
    """Rows that are together at work leave little room for what is inside: their number is halved, too."""

    def outer(rows):
        def inner(copies):
            if len(copies) + 3 * len(rows) > 10:
                raise MemoryError
            return copies

        return in_room(inner, rows.repeat(3, 1, 1, 1))[: len(rows)]

    with pytest.warns(UserWarning, match="going on with"):
        torch.testing.assert_close(in_room(outer, images), images)


def test_real_allocation_that_fails_is_recognized():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**62, dtype=torch.uint8)
    assert memory.ran_out(caught.value)


def test_usual_chunk():
    assert chunk_size(torch.zeros(3, 3, 224, 224)) == 16
    assert chunk_size(torch.zeros(3, 3, 112, 112)) == 64
    assert chunk_size(torch.zeros(0, 3, 5000, 5000)) == 1
