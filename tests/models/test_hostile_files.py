"""Files that say what cannot be: one line each, and nothing is built by what they say."""

import json
import struct

import pytest
import torch
from safetensors.torch import save_file

from refinecam.core.errors import InputError
from refinecam.models import create_backbone, load_network

ODD = [0, -1, 3.5, [], {}, (1, 2), b"a", "x" * 9999, float("nan"), 10**30, True, torch.tensor(6), torch.ones(2)]
HEADER = {"backbone": "resnet18", "num_classes": "6", "image_size": ""}
NO_STATE = [value for value in ODD if not isinstance(value, torch.Tensor)]


@pytest.fixture(scope="module")
def state():
    return create_backbone("resnet18", False, 6).state_dict()


def refused(path, content, backbone=None):
    torch.save(content, path)
    with pytest.raises(InputError) as caught:
        load_network(path, backbone)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["backbone", "num_classes", "image_size"])
def test_odd_descriptions_of_checkpoints(name, state, tmp_path):
    about = {"backbone": "resnet18", "num_classes": 6, "image_size": None}
    weights = {f"network.{key}": value for key, value in state.items()}
    for value in ODD:
        refused(tmp_path / "a.ckpt", {"state_dict": weights, "hyper_parameters": {**about, name: value}})


def test_odd_sections_of_checkpoints(state, tmp_path):
    path, about = tmp_path / "a.ckpt", {"backbone": "resnet18", "num_classes": 6}
    for value in NO_STATE:
        refused(path, {"state_dict": value, "hyper_parameters": about})
        refused(path, {"state_dict": state, "hyper_parameters": value})
        refused(path, value, "resnet18")
        refused(path, {**state, "fc.weight": value}, "resnet18")
    weight = state["conv1.weight"]
    for other in (weight.to_sparse(), weight.to("meta"), weight.to(torch.complex64), torch.tensor(6)):
        refused(path, {**state, "conv1.weight": other}, "resnet18")
    for head in (torch.zeros(1).expand(10**12, 512), torch.zeros(0, 512)):
        refused(path, {**state, "fc.weight": head}, "resnet18")
    endless = {}
    endless["state_dict"] = endless
    refused(path, endless, "resnet18")
    for backbone in (3, [], b"resnet18"):
        refused(path, state, backbone)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("backbone", value) for value in ("", "../../etc", "resnet18:x", "a" * 5000)),
        *(("num_classes", value) for value in ("0", "-1", "6.0", "9" * 5000, "²", "six", "")),
        *(("image_size", value) for value in ("0", "-3", "9" * 8, "²", " 224")),
    ],
)
def test_odd_descriptions_of_safetensors(name, value, state, tmp_path):
    save_file(state, tmp_path / "a.safetensors", {**HEADER, name: value})
    with pytest.raises(InputError):
        load_network(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("data_offsets", [0, 2**62]),
        ("data_offsets", [5, 1]),
        ("shape", [2**40, 2**40]),
        ("dtype", "F7"),
        ("shape", "a"),
    ],
)
def test_broken_headers_of_safetensors(key, value, state, tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({"w": torch.ones(3)}, path, HEADER)
    length = struct.unpack("<Q", path.read_bytes()[:8])[0]
    header = json.loads(path.read_bytes()[8 : 8 + length])
    header["w"][key] = value
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(12))
    with pytest.raises(InputError, match="cannot be read as weights"):
        load_network(path)
