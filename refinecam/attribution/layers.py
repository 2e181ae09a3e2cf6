"""The stages of a network, from shallow (0) to deep (-1), and the layout of what they put out."""

from collections.abc import Sequence

from timm.layers import LayerNorm2d, Mlp
from timm.models.swin_transformer import SwinTransformer
from timm.models.vgg import VGG
from torch import Tensor, nn
from torchvision.models import SwinTransformer as TorchvisionSwin

from refinecam.errors import InputError

STAGES = 4
CHANNELS_FIRST = (nn.Conv2d, nn.BatchNorm2d, nn.GroupNorm, nn.MaxPool2d, nn.AvgPool2d, LayerNorm2d)
CHANNELS_LAST = (nn.LayerNorm, nn.Linear, Mlp)  # timm's LayerNorm2d is a LayerNorm too: first comes first


def stage_layers(model: nn.Module) -> list[str]:
    """Names of the modules that are the four stages of a timm model, shallow to deep.

    They come from timm's ``feature_info``, except where the reference protocol looks elsewhere: VGG after the pooling
    of each stage, Swin at the first norm of each stage's last block. (For Swin's deepest stage some prefer
    ``layers.3.blocks.1.norm2``, whose maps weigh the background less: give it by name.)

    Raises:
        InputError: if the model has no such description.
    """
    if isinstance(model, VGG):
        pools = [f"features.{n}" for n, m in model.features.named_children() if isinstance(m, nn.MaxPool2d)]
        return pools[-STAGES:]
    if isinstance(model, SwinTransformer):
        blocks = [f"layers.{i}.blocks" for i in range(len(model.layers))]
        return [f"{name}.{len(list(model.get_submodule(name).children())) - 1}.norm1" for name in blocks]
    info = getattr(model, "feature_info", None)
    if not info:
        raise InputError(
            f"stage: {type(model).__name__} does not describe its stages; give layers by name, for example "
            f"{_examples(model)}"
        )
    return [entry["module"] for entry in info][-STAGES:]


def layers_of(model: nn.Module, stages: Sequence[int | str]) -> list[str]:
    """Module names of some stages.

    Args:
        model: the network.
        stages: each an index from shallow (0) to deep (-1), or a module's name.

    Raises:
        InputError: if one does not exist; the message lists what does.
    """
    modules = dict(model.named_modules())
    names = []
    for stage in stages:
        if not isinstance(stage, int | str) or isinstance(stage, bool):
            raise InputError(f"stage: expected an index or a layer's name, got {stage!r}")
        if isinstance(stage, str):
            if stage not in modules or not stage:
                raise InputError(f"stage: no layer named {stage!r}; there are, for example, {_examples(model)}")
            names.append(stage)
            continue
        known = stage_layers(model)
        if not -len(known) <= stage < len(known):
            listed = ", ".join(f"{i} ({name})" for i, name in enumerate(known))
            raise InputError(f"stage: no stage {stage}; there are {listed}, and any layer by name")
        names.append(known[stage])
    return names


def to_nchw(model: nn.Module, layer: str, output: Tensor) -> Tensor:
    """Bring a layer's output to (N, C, h, w).

    Convolutions, 2d norms and poolings put out NCHW, layer norms and linear layers keep channels last; everything else
    has the layout that the model declares, as timm's do in ``output_fmt``.

    Raises:
        InputError: if the output is not spatial.
    """
    if output.ndim != 4:
        raise InputError(f"stage: layer {layer!r} puts out {tuple(output.shape)}, not a map (N, C, h, w)")
    module = model.get_submodule(layer)
    layout = str(getattr(model, "output_fmt", "NHWC" if isinstance(model, TorchvisionSwin) else "NCHW"))
    if isinstance(module, CHANNELS_FIRST):
        layout = "NCHW"
    elif isinstance(module, CHANNELS_LAST):
        layout = "NHWC"
    return output.permute(0, 3, 1, 2) if layout == "NHWC" else output


def _examples(model: nn.Module) -> str:
    names = [name for name, module in model.named_modules() if name and not list(module.children())]
    step = max(1, len(names) // 6)
    return ", ".join(names[::step][:8])
