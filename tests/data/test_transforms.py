import numpy as np
import pytest

from refinecam.data import JointTransform
from tests.conftest import BACKBONES


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("size", [(300, 300), (240, 410), (500, 333)])
def test_image_and_mask_stay_together_when_resized(backbone, size):
    """A white rectangle on black is in the same place in the image and in its mask, to half a pixel."""
    mask = np.zeros((*size, 1), np.uint8)
    mask[size[0] // 3 : size[0] // 2, size[1] // 2 - 40 : size[1] // 2 + 25] = 1
    transform = JointTransform.for_backbone(backbone)
    sample = transform(np.repeat(mask * 255, 3, 2), mask)
    assert sample["image"].shape[1:] == sample["mask"].shape[1:] == (transform.image_size,) * 2
    white = transform.denormalize(sample["image"])[0]
    truth = sample["mask"][0]
    assert ((white > 0.5) == truth.bool()).float().mean() > 0.998
    grid = np.indices(truth.shape)
    for axis in grid:
        of_image, of_mask = ((w.numpy() * axis).sum() / w.sum().item() for w in (white, truth))
        assert abs(of_image - of_mask) < 0.5


def test_normalization_is_the_backbones():
    transform = JointTransform.for_backbone("resnet18")
    image = np.full((256, 256, 3), 124, np.uint8)
    pixel = transform(image, image[..., :1] * 0)["image"][:, 0, 0]
    expected = (124 / 255 - np.array(transform.mean)) / np.array(transform.std)
    np.testing.assert_allclose(pixel.numpy(), expected, atol=1e-5)


def test_unknown_backbone():
    with pytest.raises(ValueError, match="no model named 'nonet'"):
        JointTransform.for_backbone("nonet")
