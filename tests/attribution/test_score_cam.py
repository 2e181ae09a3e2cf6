import pytest
import pytorch_grad_cam
import torch

from refinecam.attribution import RefineCAM, ScoreCAM
from refinecam.attribution.method import normalize
from tests.attribution.oracle import STAGES, TARGETS, by_oracle
from tests.conftest import BACKBONES, SIZE


@pytest.mark.parametrize(("name", "stage"), [*((name, 0) for name in BACKBONES), ("resnet18", 1)])
def test_equals_the_oracle(name, stage, backbones):
    side = SIZE if "swin" in name else 48  # it knows its size
    batch = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(5))
    expected = by_oracle(pytorch_grad_cam.ScoreCAM, backbones[name], name, batch, [STAGES[name][stage]])
    found = ScoreCAM(stage)(backbones[name], batch, torch.tensor(TARGETS[:1]))
    torch.testing.assert_close(found, normalize(expected), atol=1e-4, rtol=0)


def test_equals_its_definition(tiny_net, images, targets):
    """Channel by channel, image by image."""
    expected = torch.zeros(5, 1, 6, 8)
    with torch.no_grad():
        for i, (image, target) in enumerate(zip(images, targets, strict=True)):
            activation = tiny_net.deep(tiny_net.stem(image[None]))
            scores = []
            for channel in activation[0]:
                large = torch.nn.functional.interpolate(
                    channel[None, None], size=(24, 32), mode="bilinear", align_corners=True
                )
                span = large.max() - large.min()
                mask = (large - large.min()) / span if span > 0 else torch.zeros_like(large)
                scores.append(tiny_net(image[None] * mask)[0, target])
            for weight, channel in zip(torch.stack(scores).softmax(0), activation[0], strict=True):
                expected[i, 0] += weight * channel
    (found,) = ScoreCAM().raw(tiny_net, images, targets, ["deep"])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("chunk", [1, 5, 1000])
def test_chunk_does_not_change_the_map(chunk, tiny_net, images, targets):
    expected = RefineCAM(ScoreCAM(), layers=["stem", "deep"])(tiny_net, images, targets)
    found = RefineCAM(ScoreCAM(chunk=chunk), layers=["stem", "deep"])(tiny_net, images, targets)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_no_more_than_a_chunk_goes_through_the_network(tiny_net, images, targets):
    sizes = []
    handle = tiny_net.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    ScoreCAM("deep", chunk=8)(tiny_net, images, targets)
    handle.remove()
    assert sizes == [5, *[8] * 7, 4]  # the images, then 5 times 12 channels


def test_bad_chunk():
    with pytest.raises(ValueError, match="chunk: expected a whole number, at least 1, got 0"):
        ScoreCAM(chunk=0)
