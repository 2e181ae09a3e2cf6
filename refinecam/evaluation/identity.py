"""What makes the numbers of an evaluation, so that only one with the same goes on in its folder."""

import hashlib
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import nn

PACKAGES = ("refinecam", "torch", "timm", "captum", "scikit-image")


def weights_digest(network: nn.Module) -> str:
    """Digest of a network's weights, names and types."""
    digest = hashlib.blake2b(digest_size=16)
    for name, value in network.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Versions of the packages that compute."""
    result = {}
    for name in PACKAGES:
        try:
            result[name] = version(name)
        except PackageNotFoundError:
            result[name] = "unknown"
    return result


def changes(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Why an evaluation is not the earlier one, nor that with more methods, scores or images; empty if it is.

    Args:
        earlier: manifest with ``identity``, ``methods`` and ``scores``.
        now: likewise.
    """
    if "identity" not in earlier:
        return ["it is of an earlier version"]
    given = {tuple(method) for method in now["methods"]}
    gone = [", ".join(filter(None, method)) for method in earlier["methods"] if tuple(method) not in given]
    named = {score["name"] for score in now["scores"]}
    gone += [score["name"] for score in earlier["scores"] if score["name"] not in named]
    return [
        *differences(earlier["identity"], now["identity"]),
        *(f"{name} is in it and not asked for" for name in gone),
    ]


def differences(earlier: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[str]:
    """What two identities differ in, in words; images may have been added."""
    lines = []
    for key in dict.fromkeys([*earlier, *now]):
        name, old, new = f"{prefix}{key}", earlier.get(key), now.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            lines += differences(old, new, f"{name}.")
        elif old != new and not (key == "images" and old and new and old < new):
            lines.append(f"{name} was {old!r}, is {new!r}" if len(f"{old}{new}") < 100 else f"{name} is another")
    return lines
