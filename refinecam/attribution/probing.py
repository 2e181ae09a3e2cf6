"""The stages of a network that says nothing of them, from two images of noise."""

import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from math import log2
from typing import Any

import torch
from torch import Tensor, nn

from refinecam.attribution.layouts import as_map, fitting_layouts, has_strides, layout_of, to_nchw
from refinecam.core.errors import InputError
from refinecam.core.running import eagerly, eval_mode
from refinecam.core.seeding import generator

STAGES = 4
USUAL_SIDE = 224
PROBES = 2
"""Images in a probe: with one, many an output would look as if it had one for each image."""


def described_input(model: nn.Module) -> Mapping[str, Any]:
    """What a timm network, also in a wrapper, says of its images; nothing for others."""
    configs = (getattr(part, "pretrained_cfg", None) for part in (model, *model.children()))
    return next((config for config in configs if config), {})


def usual_image(model: nn.Module) -> Tensor:
    """One image of noise, of the size that the model takes as far as it says so, with its weights' type and device."""
    weight = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(()))
    config = described_input(model)
    side = getattr(model, "image_size", None)
    side = side if isinstance(side, int) else USUAL_SIDE
    channels, height, width = config.get("input_size") or (3, side, side)
    size = getattr(getattr(model, "patch_embed", None), "img_size", None)
    height, width = size if isinstance(size, tuple) and len(size) == 2 else (height, width)
    noise = generator(0, "stages/probe", 0).standard_normal((1, channels, height, width))
    return torch.from_numpy(noise).to(weight)


def outputs_of(model: nn.Module, image: Tensor, names: Sequence[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Outputs and inputs of layers for two images of noise, in the order in which they end, and the logits as ``""``.

    Raises:
        InputError: if the image does not go through.
    """
    outputs: dict[str, Any] = {}
    inputs: dict[str, Any] = {}

    def hook_for(name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> Any:
            outputs.pop(name, None)
            outputs[name], inputs[name] = output, args[0] if args else None
            return output.clone() if isinstance(output, Tensor) else None  # what follows may write into it

        return hook

    modules = dict(model.named_modules(remove_duplicate=False))
    noise = generator(0, "stages/probe", 0).standard_normal((PROBES, *image.shape[1:]))
    try:
        with ExitStack() as hooks, torch.inference_mode(False), eval_mode(model), eagerly(model), torch.enable_grad():
            for name in names:
                hooks.enter_context(modules[name].register_forward_hook(hook_for(name)))
            outputs[""] = model(torch.from_numpy(noise).to(image.device, image.dtype).requires_grad_())
    except (RuntimeError, AssertionError, ValueError) as error:
        size, reason = "x".join(map(str, image.shape[2:])), str(error).strip().partition("\n")[0]
        raise InputError(
            f"stage: an image of {size} px does not go through {type(model).__name__} ({reason:.120}), by which its "
            f"stages would be known; pass images of its size, or give layers by name, such as {examples(model)}"
        ) from error
    return outputs, inputs


def probed_stages(model: nn.Module, image: Tensor) -> tuple[list[str], bool]:
    """The last layer at each resolution, shallow to deep; see :func:`~refinecam.attribution.layers.stage_layers`.

    Returns:
        The layers' names, and whether gradients showed on which layers the class score depends. A head that starts at
        0 hands none on.

    Raises:
        InputError: if there is none, or the image does not go through the model.
    """
    image = image.expand(PROBES, -1, -1, -1)
    passing = nn.Dropout | nn.Identity  # they put out what they get
    layers = [name for name, module in model.named_modules() if name and not isinstance(module, passing)]
    outputs, inputs = outputs_of(model, image, layers)
    logits = outputs.pop("")
    tensors = {name: output for name, output in outputs.items() if isinstance(output, Tensor) and output.requires_grad}
    gradients: Sequence[Tensor | None] = ()
    if isinstance(logits, Tensor) and logits.requires_grad and tensors:
        best = logits.amax(tuple(range(1, logits.ndim))).sum()
        gradients = torch.autograd.grad(best, [*tensors.values()], allow_unused=True)
    octaves = {name: _octave(model, name, output, image) for name, output in outputs.items()}
    entered = {name: _octave(model, "", inputs[name], image) for name in outputs}
    maps = [name for name in tensors if octaves[name] is not None]
    reached = {
        name for name, g in zip(tensors, gradients, strict=False) if g is not None and _reaches(model, name, g, image)
    }
    groups: dict[int, list[str]] = {}
    for name in [name for name in maps if name in reached] or maps:  # a head that starts at 0 hands no gradient on
        octave = octaves[name] or 0
        if not octave and tensors[name].shape == image.shape:  # a normalization
            continue
        parents = [name[: dot.start()] for dot in re.finditer(r"\.", name)]
        if not any(entered.get(p) == octave and (octaves.get(p) or 0) > octave for p in parents):
            groups.setdefault(octave, []).append(name)
    if not groups:
        raise InputError(
            f"stage: {type(model).__name__} does not describe its stages, and none of its layers puts out a map on "
            f"which the class score depends; give layers by name, GradCAM(stage=…) or RefineCAM(cam, layers=[…]), for "
            f"example {examples(model)}"
        )
    if len(groups) == 1:
        return _quarters(*groups.values()), bool(reached)
    chosen = [names[-1] for _, names in sorted(groups.items())]
    for i, (_, names) in enumerate(sorted(groups.items())):
        others = [name for name in chosen if name != chosen[i]]
        apart = [name for name in names if not any(other.startswith(f"{name}.") for other in others)]
        chosen[i] = apart[-1] if apart else names[-1]
    return chosen[-STAGES:], bool(reached)


def _octave(model: nn.Module, layer: str, output: Any, image: Tensor) -> int | None:
    """How often the resolution of a layer's output is halved against the image's; None if it is no map.

    Without a layer's name it is what goes into one.
    """
    if not isinstance(output, Tensor) or len(output) != len(image):
        return None
    if layer:
        result = as_map(model, output, image, layout_of(model, layer, output, image), has_strides)
    else:
        result = as_map(model, output, image, (fitting_layouts(output, image) or ["NCHW"])[0], has_strides)
    cells = 1 if result is None else result.shape[2] * result.shape[3]
    return round(log2(image.shape[2] * image.shape[3] / cells) / 2) if cells > 1 else None


def _reaches(model: nn.Module, name: str, gradient: Tensor, image: Tensor) -> bool:
    """Whether the class score depends on the map, and not only on a class token beside it."""
    try:
        return bool(to_nchw(model, name, gradient, image).any())
    except InputError:
        return False


def _quarters(names: Sequence[str]) -> list[str]:
    """The ends of four quarters of the last repeated layers, or the last layer."""
    for name in reversed(names):
        for number in re.finditer(r"\d+", name):
            pattern = re.compile(rf"{re.escape(name[: number.start()])}\d+{re.escape(name[number.end() :])}")
            alike = [other for other in names if pattern.fullmatch(other)]
            if len(alike) >= STAGES:
                return [alike[last] for last in ends_of_quarters(len(alike))]
    return [names[-1]]


def ends_of_quarters(count: int) -> list[int]:
    """Indices of the last of each quarter; fewer, where there are not as many."""
    return sorted({last for i in range(STAGES) if (last := count * (i + 1) // STAGES - 1) >= 0})


def examples(model: nn.Module) -> str:
    """Some names of layers for a message: the larger parts, which are what a stage is."""
    parts = [name for name, module in model.named_modules() if name.count(".") == 0 and name]
    inner = [name for name, _ in model.named_modules() if name.count(".") == 1]
    return ", ".join([*parts[:6], *inner[:: max(1, len(inner) // 6)][:6]])
