"""Maps, scores, imputation and hints on a GPU against the CPU.

In double precision: there float32 convolutions round to TF32.
"""

import copy

import pytest
import torch

from refinecam.attribution import parse_methods
from refinecam.imputation import impute
from refinecam.metrics import SCORES, MapEvaluation
from refinecam.models import create_backbone
from refinecam.models.hints import Hints, stage_maps

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
DEVICE = "cuda"
METHODS = parse_methods(
    "GradCAM('deep'), GradCAM++('deep'), LayerCAM('stem'), ScoreCAM('deep', chunk=7), ShapleyCAM('deep'), "
    "GuidedGradCAM('stem'), RefineCAM(LayerCAM, layers=['stem', 'deep']), InputXGradient, "
    "IntegratedGradients(steps=5), DeepLift, LIME(samples=40, segments=8, alpha=1e-5), "
    "KernelSHAP(samples=40, segments=8), RandomCAM, HalfCAM, All1sCAM"
)


@pytest.fixture
def case(tiny_net, images, targets):
    """Model, images and targets."""
    return tiny_net.double(), images.double(), targets


def on_device(model, *tensors):
    return copy.deepcopy(model).to(DEVICE), *(tensor.to(DEVICE) for tensor in tensors)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_maps_are_the_same(method, case):
    single = method.name == "DeepLift"  # it computes in nothing else
    if single:
        case = case[0].float(), case[1].float(), case[2]
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        expected, found = method(*case), method(*on_device(*case))
    assert found.device.type == DEVICE
    torch.testing.assert_close(found.cpu(), expected, atol=1e-4 if single else 1e-6, rtol=0)


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("method", [METHODS[0], METHODS[6]], ids=lambda method: method.name)
def test_scores_are_the_same(name, method, case):
    maps, masks, index = method(*case), (case[1][:, :1] > 0).float(), list(range(5))
    score = SCORES[name]().score
    expected = score(MapEvaluation(*case, maps, method, masks=masks, index=index))
    found = score(MapEvaluation(*on_device(*case, maps), method, masks=masks.to(DEVICE), index=index))
    torch.testing.assert_close(found.cpu(), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("share", [0.2, 0.8])
def test_imputation_is_the_same(share):
    images = torch.randn(3, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    missing = torch.rand(3, 1, 224, 224, generator=torch.Generator().manual_seed(1)) < share
    found = impute(images.to(DEVICE), missing.to(DEVICE)).cpu()
    torch.testing.assert_close(found, impute(images, missing), atol=1e-4, rtol=0)


def test_hints_are_the_same():
    teacher, student = (create_backbone(name, False, 6).double().eval() for name in ("resnet18", "convnext_tiny"))
    images = torch.randn(2, 3, 64, 64, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    hints = Hints(teacher, student).double()
    maps = stage_maps(student, images, hints.student_stages)[1]
    expected = hints(images, maps)
    found = hints.to(DEVICE)(images.to(DEVICE), [found.to(DEVICE) for found in maps])
    torch.testing.assert_close(found.cpu(), expected, atol=1e-6, rtol=0)
