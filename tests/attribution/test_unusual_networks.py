"""Networks as they come: cut graphs, compiled or scripted parts, adapters, threads, layers that mix a batch.

Reported as jacobgil/pytorch-grad-cam#80, frgfm/torch-cam#26 and #217 (no gradient), SeldonIO/alibi#593 and
meta-pytorch/captum#469 (threads), meta-pytorch/captum#1276 (DeepLift and its hooks).
"""

import copy
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import timm
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from refinecam.attribution import GradCAM, LayerCAM, RefineCAM, ShapleyCAM, parse_methods
from refinecam.core.errors import InputError
from refinecam.core.running import eval_mode
from refinecam.data import ShapesDataModule
from refinecam.metrics.functional import road
from refinecam.models import load_network

METHODS = parse_methods(
    "GradCAM('back.2'), GradCAM++('back.2'), LayerCAM('back.2'), ShapleyCAM('back.2'), GuidedGradCAM('back.2'), "
    "ScoreCAM('back.2'), RefineCAM(LayerCAM, layers=['back.2', 'deep']), InputXGradient, IntegratedGradients(steps=3), "
    "DeepLift, LIME(samples=6, segments=4), KernelSHAP(samples=6, segments=4)"
)
BY_NAME = {method.short_name if not method.aggregator else "RefineCAM": method for method in METHODS}
WITHOUT_GRADIENTS = ("ScoreCAM", "LIME", "KernelSHAP")
WITHOUT_RECORDS = ("InputXGradient", "IntegratedGradients", "LIME", "KernelSHAP")


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.back = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU())
        self.deep = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU())
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        return self.head(self.deep(self.first(x)).mean((2, 3)))

    def first(self, x):
        return self.back(x)


class Frozen(Net):
    def first(self, x):
        with torch.no_grad():
            return self.back(x)


class Detached(Net):
    def first(self, x):
        return self.back(x).detach()


class Reentrant(Net):
    def first(self, x):
        return checkpoint(self.back, x, use_reentrant=True)


class NotReentrant(Net):
    def first(self, x):
        return checkpoint(self.back, x, use_reentrant=False)


@pytest.fixture
def case():
    torch.manual_seed(0)
    return Net().eval(), torch.randn(2, 3, 32, 32), torch.tensor([1, 2])


def variant(kind, network):
    result = kind().eval() if isinstance(kind, type) else copy.deepcopy(network)
    result.load_state_dict(network.state_dict())
    if kind == "scripted":
        result.back = torch.jit.script(result.back)
    elif kind == "traced":
        result = torch.jit.trace(result, torch.zeros(2, 3, 32, 32))
    elif kind == "compiled":
        result.compile(backend="aot_eager")
        result(torch.zeros(2, 3, 32, 32))
    elif kind == "quantized":
        result = torch.ao.quantization.quantize_dynamic(result, {nn.Linear})
    return result


@pytest.mark.parametrize("kind", [Frozen, Detached, Reentrant, "quantized"])
@pytest.mark.parametrize("name", BY_NAME)
@pytest.mark.filterwarnings("ignore")
def test_where_no_gradient_comes_through(name, kind, case):
    network, images, targets = case
    cut, method = variant(kind, network), BY_NAME[name]
    if name in WITHOUT_GRADIENTS:
        tolerance = 1e-5 if kind != "quantized" else 0.5
        torch.testing.assert_close(method(cut, images, targets), method(*case), atol=tolerance, rtol=0)
        return
    with pytest.raises(InputError, match=r"no_grad\(\).*(layers? behind|without gradients)"):
        method(cut, images, targets)
    behind = GradCAM("deep")
    if kind != "quantized":
        torch.testing.assert_close(behind(cut, images, targets), behind(*case))
        maps = behind(*case)
        torch.testing.assert_close(road(cut, images, targets, maps), road(*case, maps))


@pytest.mark.parametrize("kind", ["scripted", "traced"])
@pytest.mark.parametrize("name", BY_NAME)
@pytest.mark.filterwarnings("ignore")
def test_scripted_and_traced_parts(name, kind, case):
    network, images, targets = case
    closed, method = variant(kind, network), BY_NAME[name]
    if name in WITHOUT_RECORDS:
        torch.testing.assert_close(method(closed, images, targets), method(*case), atol=1e-5, rtol=0)
        return
    with pytest.raises(InputError, match=r"is scripted or traced.*; pass the module that it was made of"):
        method(closed, images, targets)


@pytest.mark.parametrize("kind", [NotReentrant, "compiled"])
@pytest.mark.parametrize("name", BY_NAME)
def test_checkpoints_and_compilation_change_nothing(name, kind, case):
    network, images, targets = case
    found = BY_NAME[name](variant(kind, network), images, targets)
    torch.testing.assert_close(found, BY_NAME[name](*case), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["resnet18", "res2net50_26w_4s", "efficientnet_b0", "mobilenetv3_small_050"])
def test_timms_gradient_checkpointing(name):
    """The stages' containers do not run then, only their blocks."""
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=5).eval()
    images, targets = torch.randn(1, 3, 64, 64), torch.tensor([2])
    expected = LayerCAM(1)(network, images, targets)
    network.set_grad_checkpointing(True)
    torch.testing.assert_close(LayerCAM(1)(network, images, targets), expected)
    assert any(getattr(module, "grad_checkpointing", False) for module in network.modules())


@pytest.mark.parametrize("name", BY_NAME)
def test_threads_share_a_model(name, case):
    """Hooks and temporary changes belong to the model; whoever comes later waits."""
    network, method = case[0].train(), BY_NAME[name]
    others = [torch.randn(2, 3, 32, 32) for _ in range(12)]
    targets = case[2]
    expected = [
        (method(network, images, targets), road(network, images, targets, images[:, :1].sigmoid())) for images in others
    ]
    with ThreadPoolExecutor(3) as pool:
        maps = [pool.submit(method, network, images, targets) for images in others]
        scores = [pool.submit(road, network, images, targets, images[:, :1].sigmoid()) for images in others]
    for future, score, (of_map, of_score) in zip(maps, scores, expected, strict=True):
        torch.testing.assert_close(future.result(), of_map)
        torch.testing.assert_close(score.result(), of_score)
    assert all(module.training for module in network.modules())


class Adapter(nn.Module):
    """A layer that merges its weights in ``eval()``, as low-rank adapters do."""

    def __init__(self):
        super().__init__()
        self.base, self.extra, self.merged, self.calls = (
            nn.Conv2d(3, 8, 3),
            nn.Parameter(torch.ones(8, 3, 3, 3)),
            False,
            0,
        )

    def train(self, mode=True):
        super().train(mode)
        self.calls += 1
        if self.merged == mode:
            self.base.weight.data += self.extra.data if not mode else -self.extra.data
            self.merged = not mode
        return self

    def forward(self, x):
        assert self.merged is not self.training
        return self.base(x)


def test_an_adapter_is_merged_and_taken_apart_again(images, targets):
    network = nn.Sequential(
        Adapter(), nn.ReLU(), nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 6)
    )
    network.train()
    network[2].eval()
    weight = network[0].base.weight.detach().clone()
    GradCAM("0.base")(network, images, targets)
    assert not network[0].merged
    torch.testing.assert_close(network[0].base.weight, weight)
    assert [module.training for module in network] == [True, True, False, True, True, True]
    network.eval()
    calls = network[0].calls
    RefineCAM(GradCAM(), layers=["0.base", "2"])(network, images, targets)
    assert network[0].calls == calls  # a network in eval mode is not touched


def test_eval_mode_restores_after_an_error():
    network = nn.Sequential(Adapter(), nn.Dropout())
    network[1].eval()

    def failing():
        with eval_mode(network):
            assert network[0].merged
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    assert [network.training, network[0].training, network[1].training, network[0].merged] == [True, True, False, False]


def test_a_layer_that_mixes_a_batch_is_named(images, targets):
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, track_running_stats=False), nn.ReLU())
    network = nn.Sequential(network, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 6)).eval()
    with pytest.warns(UserWarning, match=r"layer '0\.1' has no running statistics"):
        GradCAM("0")(network, images, targets)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        GradCAM("0")(network, images[:1], targets[:1])


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "lcnet_050", "ese_vovnet19b_slim"])
def test_second_derivatives_of_hard_functions(name):
    """Against finite differences of the gradient along the activation, in double precision."""
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=5).eval().double()
    images, targets = torch.randn(1, 3, 64, 64, dtype=torch.float64), torch.tensor([3])
    (layer,) = ShapleyCAM(1).layers(network, images)
    (found,) = ShapleyCAM().raw(network, images, targets, [layer])
    activation, gradients, step = None, [], 1e-7

    def gradient_at(scale):
        recorded = []

        def hook(module, args, output):
            moved = (output.detach() * scale).requires_grad_()
            recorded.append(moved)
            return moved

        handle = network.get_submodule(layer).register_forward_hook(hook)
        (gradient,) = torch.autograd.grad(network(images)[0, 3], recorded)
        handle.remove()
        return recorded[0].detach(), gradient

    activation, gradient = gradient_at(1.0)
    gradients = [gradient_at(1 + sign * step)[1] for sign in (1, -1)]
    product = (gradients[0] - gradients[1]) / (2 * step)
    weight = (gradient - product / 2).mean((2, 3), keepdim=True)
    torch.testing.assert_close(found, (weight * activation).sum(1, keepdim=True), rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_a_network_in_half_precision(kind):
    """Maps of the shipped ResNet18 in half precision correlate with its float32 maps as stated in docs/methods.md."""
    network, data = load_network("shapes-resnet18"), ShapesDataModule(test_size=2, batch_size=2, num_workers=0)
    data.setup("test")
    batch = next(iter(data.test_dataloader()))
    images, targets = batch["image"], batch["label"]
    half = copy.deepcopy(network).to(kind)
    methods = "GradCAM, GradCAM++(stage=0), LayerCAM(stage=0), RefineCAM(LayerCAM), GuidedGradCAM, InputXGradient"
    for method in parse_methods(methods):
        maps = method(network, images, targets), method(half, images.to(kind), targets)
        assert maps[1].dtype == torch.float32
        for pair in zip(*(found.flatten(1) for found in maps), strict=True):
            assert torch.corrcoef(torch.stack(pair))[0, 1] > (0.97 if method.name == "InputXGradient" else 0.99), method
