"""What a model and images are refused for, and with which remedy."""

import warnings

import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import nn

from refinecam.attribution import DeepLift, LayerCAM, RefineCAM, ScoreCAM
from refinecam.core.backbones import data_config
from refinecam.metrics.functional import arcc, average_drop, coherency, road


class Wrapped(nn.Module):
    """A model whose output is passed on through a function."""

    def __init__(self, model, through):
        super().__init__()
        self.model, self.through = model, through

    def forward(self, x):
        return self.through(self.model(x))


class Gray(nn.Module):
    def forward(self, x):
        return x.mean(1, keepdim=True)


def layer_cam(model, images, targets):
    return LayerCAM(stage="deep")(model, images, targets)


def score_cam(model, images, targets):
    return ScoreCAM(stage="deep")(model, images, targets)


def road_of_map(model, images, targets):
    return road(model, images, targets, images.mean(1, keepdim=True).sigmoid())


def road_of_noise(model, images, targets):
    return road(model, images, targets, torch.rand(len(images), 1, *images.shape[2:]))


@pytest.mark.parametrize("use", [layer_cam, score_cam, DeepLift(), road_of_noise])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x.double(), r"images: torch.float64 on cpu, but the model's weights are torch.float32.*images.to"),
        (lambda x: x[:, :1], "has 1 channels, the model takes 3$"),
        (lambda x: x.permute(0, 2, 3, 1), r"has 24 channels, the model takes 3; images.permute\(0, 3, 1, 2\)"),
        (lambda x: x.numpy(), r"images: expected a tensor \(N, C, H, W\), got a ndarray"),
        (lambda x: (x * 255).to(torch.uint8), "divide by 255 and normalize"),
    ],
)
def test_images_that_the_model_cannot_take(use, change, message, tiny_net, images, targets):
    if isinstance(use, DeepLift) and "float64" in message:
        torch.testing.assert_close(use(tiny_net, images.double(), targets), use(tiny_net, images, targets))
        return
    with pytest.raises(ValueError, match=message):
        use(tiny_net, change(images), targets)


@pytest.mark.parametrize("model", ["resnet18", lambda x: x, torch.zeros(1)])
def test_what_is_no_model(model, images, targets):
    for use in (LayerCAM(), RefineCAM(LayerCAM()), road_of_noise):
        with pytest.raises(ValueError, match=r"model: expected a torch.nn.Module, got a (str|function|Tensor)"):
            use(model, images, targets)


def test_other_errors_of_a_model_are_its_own(tiny_net, images, targets):
    def fail(logits):
        raise RuntimeError("its own")

    with pytest.raises(RuntimeError, match="its own"):
        road_of_noise(Wrapped(tiny_net, fail).eval(), images, targets)
    gray = nn.Sequential(Gray(), nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(7, 6)).eval()
    with pytest.raises(RuntimeError, match="mat1 and mat2 shapes cannot be multiplied"):
        road_of_noise(gray, images, targets)
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(RuntimeError, match="mat1 and mat2 shapes"):
        road_of_noise(gray, images.bfloat16(), targets)


def test_one_image_alone_and_targets_of_other_types(tiny_net, images, targets):
    cases = [
        (images[0], targets[:1], r"images.unsqueeze\(0\)"),
        (images, "cat", r"targets: expected one class for each image, torch.tensor\(\[…\]\), got 'cat'"),
        (images, [0] * 4, r"targets: expected an int64 tensor \(5,\)"),
        (images, [0.5] * 5, r"targets: expected an int64 tensor \(5,\).*use targets.long"),
        (images, 7, "targets: class 7 is not one of the model's 6 classes"),
        (images, targets.int(), r"use targets.long\(\)"),
    ]
    for given, chosen, message in cases:
        with pytest.raises(ValueError, match=message):
            layer_cam(tiny_net, given, chosen)


def test_targets_as_people_give_them(tiny_net, images, targets):
    for use in (layer_cam, score_cam, road_of_map):
        expected = use(tiny_net, images, targets)
        for given in (targets.tolist(), tuple(targets.tolist()), targets.numpy(), targets.numpy().astype(np.int16)):
            torch.testing.assert_close(use(tiny_net, images, given), expected)
        predicted = tiny_net(images).argmax(1)
        torch.testing.assert_close(use(tiny_net, images, None), use(tiny_net, images, predicted))
        torch.testing.assert_close(use(tiny_net, images, 2), use(tiny_net, images, torch.full((5,), 2)))


@pytest.mark.parametrize("count", [2, 8])  # from 8 on batch norms are folded
def test_a_first_layer_may_write_into_its_input(count):
    torch.manual_seed(0)
    norm, images = torchvision.transforms.Normalize((0.4,) * 3, (0.2,) * 3), torch.rand(count, 3, 32, 32)
    network = nn.Sequential(norm, nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    whole, maps = images.clone(), images.mean(1, keepdim=True)
    targets = torch.zeros(count, dtype=torch.int64)
    expected = road(network, images, targets, maps)
    norm.inplace = True
    torch.testing.assert_close(road(network, images, targets, maps), expected)
    torch.testing.assert_close(images, whole, rtol=0, atol=0)


def test_images_that_were_not_normalized_are_warned_of(tiny_net, images, targets):
    for use in (layer_cam, road_of_map):
        with pytest.warns(UserWarning, match="images: values up to 255 look like colors from 0 to 255; divide by 255"):
            use(tiny_net, (images - images.amin()) / (images.amax() - images.amin()) * 255, targets)


def test_images_of_another_size_than_a_transformers():
    network = timm.create_model("vit_tiny_patch16_224", num_classes=6)
    with pytest.raises(ValueError, match=r"images: \(1, 3, 96, 96\) does not fit the model: .*dynamic_img_size=True"):
        LayerCAM()(network, torch.rand(1, 3, 96, 96), [1])


def test_outputs_that_are_no_logits(tiny_net, images, targets):
    model = Wrapped(tiny_net, lambda logits: {"logits": logits}).eval()
    with pytest.raises(ValueError, match=r"expected logits \(.*got dict; wrap it in a module that returns the logits"):
        road_of_noise(model, images, targets)


def test_one_logit_has_no_confidence(tiny_net, images, targets):
    model = Wrapped(tiny_net, lambda logits: logits[:, :1]).eval()
    with pytest.raises(ValueError, match="model: it puts out one logit, whose softmax is 1"):
        road_of_noise(model, images, targets * 0)


def test_probabilities_are_warned_of_and_logits_are_not(tiny_net, images, targets):
    with pytest.warns(UserWarning, match="model: it seems to put out probabilities"):
        road_of_noise(Wrapped(tiny_net, lambda logits: logits.softmax(1)).eval(), images, targets)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        road_of_noise(tiny_net, images, targets)
        road_of_noise(Wrapped(tiny_net, lambda logits: logits.log_softmax(1)).eval(), images, targets)


def test_what_a_method_makes_of_masked_images_is_checked(tiny_net, images, targets):
    maps = torch.rand(5, 1, 24, 32)
    cases = [
        (lambda *_: maps[:1], r"method: what it makes of the masked images: expected one map a pixel of each image"),
        (lambda *_: maps[:, 0], r"masked images: expected a float tensor \(N, 1, H, W\).*use .unsqueeze\(1\)"),
        (lambda *_: maps[..., ::2, ::2], r"interpolate\(maps, \(24, 32\), mode=\"bilinear\"\)"),
        (lambda *_: maps.numpy(), r"masked images: .* got a ndarray; use torch.from_numpy"),
        (LayerCAM, r"method: pass an instance, LayerCAM\(\), not the class"),
    ]
    for method, message in cases:
        for score in (coherency, arcc):
            with pytest.raises(ValueError, match=message):
                score(tiny_net, images, targets, maps, method)


def test_maps_of_another_library(tiny_net, images, targets):
    for maps, message in (
        (torch.rand(5, 24, 32).numpy(), r"maps: .* got a ndarray; use torch.from_numpy"),
        (torch.rand(5, 24, 32), r"maps: .*use .unsqueeze\(1\)"),
        (torch.rand(5, 1, 3, 4), r"torch.nn.functional.interpolate\(maps, \(24, 32\)"),
    ):
        with pytest.raises(ValueError, match=message):
            average_drop(tiny_net, images, targets, maps)


def test_a_network_without_a_config_has_timms_usual_images(monkeypatch):
    monkeypatch.setattr("timm.models.get_pretrained_cfg", lambda name: None)
    config = data_config("resnet18")
    assert (config["input_size"], config["mean"]) == ((3, 224, 224), (0.485, 0.456, 0.406))
