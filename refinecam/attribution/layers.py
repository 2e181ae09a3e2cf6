"""The stages of a network, from shallow (0) to deep (-1), and its layers by name."""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from timm.models.swin_transformer import SwinTransformer
from timm.models.vgg import VGG
from torch import Tensor, nn
from torchvision.models import VGG as TorchvisionVGG

from refinecam.attribution.layouts import layout_of, to_nchw
from refinecam.attribution.method import as_stage
from refinecam.attribution.probing import (
    PROBES,
    STAGES,
    ends_of_quarters,
    examples,
    outputs_of,
    probed_stages,
    usual_image,
)
from refinecam.core.checks import check_model
from refinecam.core.errors import InputError
from refinecam.core.running import bare

_PROBED: WeakKeyDictionary[nn.Module, list[str]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Stage:
    """One of a network's stages.

    Attributes:
        index: from shallow (0) to deep.
        layer: name of the module whose output it is.
        layout: of that output, as for :func:`~refinecam.attribution.layouts.to_nchw`.
        channels: of its map.
        rows: of its map.
        columns: of its map.
    """

    index: int
    layer: str
    layout: str
    channels: int
    rows: int
    columns: int


def stages(model: nn.Module, image: Tensor | None = None) -> list[Stage]:
    """What ``stage=0`` and so on mean for a network, with the layout and the resolution of their outputs.

    Args:
        model: classifier, images to logits.
        image: of the kind that it takes, shape (N, C, H, W); None for noise of its own input size.

    Raises:
        InputError: if it has no layer with a map, or such an image does not go through it.
    """
    model = bare(model)
    image = usual_image(model) if image is None else image[:1]
    image = image.expand(PROBES, -1, -1, -1)
    names = stage_layers(model, image)
    outputs, _ = outputs_of(model, image, names)
    result = []
    for index, name in enumerate(names):
        shape = to_nchw(model, name, outputs[name], image).shape
        result.append(Stage(index, name, layout_of(model, name, outputs[name], image), *shape[1:]))
    return result


def stage_layers(model: nn.Module, image: Tensor | None = None) -> list[str]:
    """Names of the modules that are the stages of a network, shallow to deep: four of most.

    They come from timm's ``feature_info``, except where the reference protocol looks elsewhere: VGG after the pooling
    of each stage, Swin at the first norm of each stage's last block. (For Swin's deepest stage some prefer
    ``layers.3.blocks.1.norm2``, whose maps weigh the background less: give it by name.) A vision transformer has no
    stages: its blocks are quartered, and the first norm of each quarter's last block is taken, because the image's
    tokens no longer matter behind the last attention.

    A network that says nothing of its stages, such as torchvision's, is probed with two images of noise: a stage is the
    last layer at each resolution on whose places the class score depends, leaving out the inside of layers that reduce
    the resolution. Where there is one resolution, its repeated blocks are quartered.

    Args:
        model: classifier, images to logits.
        image: of the kind that it takes, for the probe; None for noise of the network's own input size.

    Raises:
        InputError: if the model has no layer with a map, or the probe does not go through it.
    """
    check_model(model)
    model = bare(model)
    modules = dict(model.named_modules())
    inside = [("", model), *((f"{name}.", child) for name, child in model.named_children())]
    described = [[f"{prefix}{name}" for name in _described_stages(part)] for prefix, part in inside]
    whole = [names for names in described if names and all(name in modules for name in names)]
    known = _PROBED.get(model)
    if known is None or not all(name in modules for name in known):
        example = usual_image(model) if image is None else image[:1]
        if (described[0] in whole or len(whole) == 1) and _put_out_maps(model, whole[0], example):
            _PROBED[model] = whole[0]  # its own, or of the network that it wraps
            return list(whole[0])
        known, certain = probed_stages(model, example)
        if certain:
            _PROBED[model] = known
    return list(known)


def _put_out_maps(model: nn.Module, names: Sequence[str], image: Tensor) -> bool:
    """Whether these layers run and put out tensors, which not all do that timm lists; assumed where nothing runs."""
    try:
        outputs, _ = outputs_of(model, image, names)
    except InputError:  # of an image of another size, for example
        return True
    return all(isinstance(outputs.get(name), Tensor) for name in names)


def _described_stages(model: nn.Module) -> list[str]:
    """Names of the stages as the kind of model has them; they need not exist."""
    if isinstance(model, VGG | TorchvisionVGG):
        pools = [f"features.{n}" for n, m in model.features.named_children() if isinstance(m, nn.MaxPool2d)]
        return pools[-STAGES:]
    if isinstance(model, SwinTransformer):
        blocks = [f"layers.{i}.blocks" for i in range(len(model.layers))]
        return [f"{name}.{len(list(model.get_submodule(name).children())) - 1}.norm1" for name in blocks]
    transformer = getattr(model, "blocks", None) if hasattr(model, "num_prefix_tokens") else None
    if isinstance(transformer, nn.Sequential | nn.ModuleList):
        return [f"blocks.{last}.norm1" for last in ends_of_quarters(len(transformer))]
    entries = list(getattr(model, "feature_info", None) or [])
    if len({entry.get("reduction") for entry in entries}) == 1:  # one resolution, as in an MLP-Mixer
        return [entries[last]["module"] for last in ends_of_quarters(len(entries))]
    return [entry["module"] for entry in entries][-STAGES:]


def layers_of(
    model: nn.Module, chosen: Sequence[int | str | nn.Module], argument: str = "stage", image: Tensor | None = None
) -> list[str]:
    """Module names of some stages.

    Args:
        model: the network.
        chosen: each an index from shallow (0) to deep (-1), a module's name, or the module.
        argument: what gave them, for messages.
        image: for the probe of a network that does not describe its stages.

    Raises:
        InputError: if one does not exist; the message lists what does.
    """
    check_model(model)
    model = bare(model)
    modules = dict(model.named_modules(remove_duplicate=False))
    names = []
    for stage in map(as_stage, chosen):
        if isinstance(stage, nn.Module):
            known_as = next((name for name, module in modules.items() if module is stage), "")
            if not known_as:
                raise InputError(f"{argument}: the {type(stage).__name__} given is not a layer of the model")
            names.append(known_as)
            continue
        if not isinstance(stage, int | str) or isinstance(stage, bool):
            raise InputError(f"{argument}: expected an index or a layer's name, got {str(stage).splitlines()[0]:.60}")
        if isinstance(stage, str):
            name = stage if stage in modules else re.sub(r"^(module\.|_orig_mod\.)+", "", stage)
            if name not in modules or not name:
                close = ", ".join(difflib.get_close_matches(stage, filter(None, modules), n=4))
                result = f"close to it: {close}" if close else f"there are, for example, {examples(model)}"
                raise InputError(f"{argument}: no layer named {stage!r}; {result}")
            names.append(name)
            continue
        known = stage_layers(model, image)
        if not -len(known) <= stage < len(known):
            listed = ", ".join(f"{i} ({name})" for i, name in enumerate(known))
            raise InputError(f"stage: no stage {stage}; there are {listed}, and any layer by name")
        names.append(known[stage])
    return names
