"""Running a network with its batch norms folded into the convolutions before them: fewer passes over memory."""

from collections.abc import Iterator
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.module import _has_any_global_hook

FEWEST = 8
"""Images from which on it pays: the weights are folded anew in every pass."""
LIBRARIES = ("timm", "torchvision")
"""Whose networks are traced: what is traced may not depend on more than modules and weights."""
TOLERANCE = 1e-4
"""Of the largest logit, by which the first images' logits may differ."""


class _Known(NamedTuple):
    modules: tuple[int, ...]
    network: nn.Module | None


_known: WeakKeyDictionary[nn.Module, _Known] = WeakKeyDictionary()


def folded(model: nn.Module, images: Tensor) -> nn.Module:
    """A network with the same logits up to rounding that runs faster without gradients, or the model itself.

    It reads the model's own weights in every pass, so it follows them, and it keeps none. It is traced once for each
    model, and again when modules were replaced or changed their mode. Networks of other libraries than timm and
    torchvision, with hooks, in lower precision or without a batch norm after a convolution stay as they are.

    Args:
        model: classifier, in eval mode.
        images: that go through it next; of the first ones both networks' logits are compared.
    """
    if len(images) < FEWEST or type(model).__module__.partition(".")[0] not in LIBRARIES or _has_any_global_hook():
        return model
    modules = []
    for module in model.modules():
        if module.training or module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module):
            return model
        modules.append(id(module))
    known = _known.get(model)
    if known is None or known.modules != tuple(modules):
        known = _known[model] = _Known(tuple(modules), _checked(model, images[:2]))
    return known.network or model


def _checked(model: nn.Module, images: Tensor) -> nn.Module | None:
    try:
        network = _fold(model)
        if network is None:
            return None
        expected, found = model(images), network(images)
        close = (found - expected).abs().amax() <= TOLERANCE * expected.abs().amax()
        return network if close else None
    except Exception:  # whatever cannot be traced runs as it is
        return None


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, nn.Conv2d | nn.BatchNorm2d) or super().is_leaf_module(m, module_qualified_name)


class _Convolution(nn.Module):
    """A convolution with the batch norm after it, folded when it runs."""

    def __init__(self, convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.convolution, self.norm = convolution, norm

    def forward(self, images: Tensor) -> Tensor:
        convolution, norm = self.convolution, self.norm
        assert norm.running_mean is not None  # see _is_plain
        assert norm.running_var is not None
        scale = (norm.running_var + norm.eps).rsqrt()
        scale = scale if norm.weight is None else scale * norm.weight
        shift = -norm.running_mean * scale
        shift = shift if norm.bias is None else shift + norm.bias
        shift = shift if convolution.bias is None else shift + convolution.bias * scale
        result = convolution._conv_forward(images, convolution.weight * scale[:, None, None, None], shift)
        for name in ("drop", "act"):  # what timm's norms do afterwards
            result = getattr(norm, name)(result) if hasattr(norm, name) else result
        return result


def _fold(model: nn.Module) -> nn.Module | None:
    """The traced network with its pairs folded; None if there is none."""
    if not any(isinstance(module, nn.BatchNorm2d) for module in model.modules()):
        return None
    graph = _Tracer().trace(model)
    network = fx.GraphModule(model, graph)
    pairs = list(_pairs(model, graph))
    for number, (before, after) in enumerate(pairs):
        name = f"folded_{number}"
        convolution, norm = (model.get_submodule(str(node.target)) for node in (before, after))
        network.add_submodule(name, _Convolution(convolution, norm))  # type: ignore[arg-type]
        before.target = name
        after.replace_all_uses_with(before)
        graph.erase_node(after)
    network.recompile()
    return network if pairs else None


def _pairs(model: nn.Module, graph: fx.Graph) -> Iterator[tuple[fx.Node, fx.Node]]:
    """Each convolution whose result a batch norm alone reads, with that norm."""
    calls: dict[Any, list[fx.Node]] = {}
    for node in graph.nodes:
        if node.op == "call_module":
            calls.setdefault(node.target, []).append(node)
    for node in list(graph.nodes):
        before = node.args[0] if node.op == "call_module" and node.args else None
        if not (isinstance(before, fx.Node) and before.op == "call_module" and len(before.users) == 1):
            continue
        convolution, norm = (model.get_submodule(str(each.target)) for each in (before, node))
        once = len(calls[before.target]) == len(calls[node.target]) == 1
        if once and _is_plain(convolution, norm):
            yield before, node


def _is_plain(convolution: nn.Module, norm: nn.Module) -> bool:
    usual = type(norm) is nn.BatchNorm2d or type(norm).__name__ == "BatchNormAct2d"
    precise = type(convolution) is nn.Conv2d and convolution.weight.dtype in (torch.float32, torch.float64)
    return precise and usual and norm.running_var is not None
