"""Methods that need no layer, only the image's gradient: thin adapters over captum."""

import copy
import re
import warnings
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock
from typing import Any

import captum.attr
import torch
from captum.attr._core.deep_lift import SUPPORTED_NON_LINEAR
from torch import Tensor, fx, nn

from refinecam.attribution.method import AttributionMethod, normalize, register
from refinecam.core.checks import check_input, check_logits
from refinecam.core.errors import InputError, check_counts
from refinecam.core.memory import chunk_size
from refinecam.core.running import (
    check_gradients_possible,
    check_not_scripted,
    eagerly,
    eval_mode,
    explained_misfit,
)

TRACING = Lock()
CUT = re.compile("not have been used|not require grad|n't require grad|use_reentrant")
"""What PyTorch says where no gradient reaches the image."""
NO_GRADIENT = (
    "model: no gradient of the logits reaches the image: torch.no_grad(), .detach(), reentrant checkpointing or "
    "quantized layers in the model's forward cut the way; use use_reentrant=False there, or a method without "
    "gradients, such as LIME"
)


class PixelMethod(AttributionMethod):
    """Attributions of the input's values: summed over the channels, then the absolute value, then min-max."""

    def explain(self, model: nn.Module, image: Tensor, target: Tensor) -> Tensor:
        """Map at the image's resolution; see :class:`~refinecam.attribution.method.AttributionMethod`."""
        check_input(image, target)
        check_gradients_possible()
        if not len(image):
            return image.new_zeros(0, 1, *image.shape[2:])
        with eval_mode(model), eagerly(model), torch.enable_grad(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="captum")  # of the hooks that it sets and removes
            try:
                values = self.attribute(model, image.detach().clone().requires_grad_(), target)
            except RuntimeError as error:
                if CUT.search(str(error)):
                    raise InputError(NO_GRADIENT) from error
                raise
        return normalize(values.detach().float().sum(1, keepdim=True).abs())

    @abstractmethod
    def attribute(self, model: nn.Module, image: Tensor, target: Tensor) -> Tensor:
        """Signed attributions, shape (N, C, H, W); the model is in eval mode and gradients are on."""


@register
class InputXGradient(PixelMethod):
    """Input times gradient of the class score (Shrikumar et al., 2016)."""

    def attribute(self, model: nn.Module, image: Tensor, target: Tensor) -> Tensor:
        """From one forward and one backward."""
        return captum.attr.InputXGradient(_Checked(model, target)).attribute(image, target)


@register
class IntegratedGradients(PixelMethod):
    """Gradients integrated on the straight line from a zero image (Sundararajan et al., ICML 2017).

    Args:
        steps: points of the Gauss-Legendre quadrature.
        chunk: images that go through the network at once; bounds the memory and does not change the map. None takes
            what suits the device.
    """

    def __init__(self, steps: int = 50, chunk: int | None = None) -> None:
        check_counts({"chunk": chunk}, steps=steps)
        self.steps, self.chunk, self.passes = steps, chunk, 3 * steps

    def attribute(self, model: nn.Module, image: Tensor, target: Tensor) -> Tensor:
        """From ``steps`` forwards and backwards an image."""
        chunk = chunk_size(image, self.chunk)
        parts = [  # captum takes at least one step of all images at once
            captum.attr.IntegratedGradients(_Checked(model, classes)).attribute(
                images, target=classes, n_steps=self.steps, internal_batch_size=chunk
            )
            for images, classes in zip(image.split(chunk), target.split(chunk), strict=True)
        ]
        return torch.cat(parts)


@register
class DeepLift(PixelMethod):
    """Differences to a zero image, propagated back by the rescale rule (Shrikumar et al., ICML 2017).

    The rule concerns modules of ReLU's kind, max pooling and softmax; through everything else, GELU and functions such
    as ``F.relu`` among it, the gradient goes as it is. Captum needs such a module to run once, not in place, and not on
    another one's output, and mixes the rows of a batch in some of them. So modules do not run in place for the time of
    the call, each gets a copy of its input, a network that runs one several times is traced, with a module for each
    run, images go one by one, and everything is computed in float32. The attributions then add up to the difference of
    the logits, but for what captum's rule loses in max poolings whose windows overlap, as in a ResNet's stem. PyTorch
    has no deterministic unpooling, so deterministic algorithms are not asked for meanwhile: on a CPU the map is the
    same every time, on a GPU such windows may make it differ.
    """

    def attribute(self, model: nn.Module, image: Tensor, target: Tensor) -> Tensor:
        """From one forward and one backward an image and its baseline."""
        check_not_scripted(model, [name for name, _ in model.named_modules()], "model")
        half = [parameter.dtype for parameter in model.parameters() if parameter.dtype != torch.float32]
        if half:
            raise InputError(f"model: DeepLift computes in float32, the model has {half[0]} weights; use model.float()")
        with torch.autocast(image.device.type, enabled=False), _not_in_place(model), _any_algorithm():
            network = _each_module_once(model, image[:1].float())
            with _own_inputs(network):
                parts = [
                    captum.attr.DeepLift(_Checked(network, target[i : i + 1])).attribute(
                        image[i : i + 1].float(), target=target[i : i + 1]
                    )
                    for i in range(len(image))
                ]
        return torch.cat(parts)


class _Checked(nn.Module):
    """The model, with logits and targets checked where captum would fail in its own words."""

    def __init__(self, model: nn.Module, target: Tensor) -> None:
        super().__init__()
        self.model, self.target = model, target

    def forward(self, x: Tensor) -> Tensor:
        with explained_misfit(self.model, x):
            logits = self.model(x.clone())  # a first in-place module must not write into the leaf
        if x.requires_grad and torch.is_grad_enabled() and isinstance(logits, Tensor) and not logits.requires_grad:
            raise InputError(NO_GRADIENT)
        several = isinstance(logits, Tensor) and logits.ndim == 2 and len(logits) == len(x)  # rows of each image
        check_logits(logits[:1].expand(len(self.target), -1) if several else logits, self.target)
        return logits


@contextmanager
def _not_in_place(model: nn.Module) -> Iterator[None]:
    changed: list[Any] = [module for module in model.modules() if getattr(module, "inplace", False)]
    for module in changed:
        module.inplace = False
    try:
        yield
    finally:
        for module in changed:
            module.inplace = True


@contextmanager
def _any_algorithm() -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


@contextmanager
def _own_inputs(model: nn.Module) -> Iterator[None]:
    """Give each of the rule's modules a copy of its input, and take away what captum may leave in them."""
    modules = [module for module in model.modules() if type(module) in SUPPORTED_NON_LINEAR]
    before = [set(vars(module)) for module in modules]
    with ExitStack() as hooks:
        for module in modules:
            hooks.enter_context(module.register_forward_pre_hook(lambda _, args: tuple(a.clone() for a in args)))
        try:
            yield
        finally:
            for module, names in zip(modules, before, strict=True):
                for name in set(vars(module)) - names:
                    delattr(module, name)


def _each_module_once(model: nn.Module, image: Tensor) -> nn.Module:
    """The model itself if no non-linear module runs twice; otherwise a traced copy that shares its parameters."""
    runs: Counter[str] = Counter()

    def counter(name: str) -> Any:
        return lambda *_: runs.update([name])

    with ExitStack() as hooks:
        for name, module in model.named_modules():
            if type(module) in SUPPORTED_NON_LINEAR:
                hooks.enter_context(module.register_forward_hook(counter(name)))
        leaf = image.detach().clone().requires_grad_()
        with explained_misfit(model, image):
            logits = model(leaf.clone())
        if isinstance(logits, Tensor):  # what is not, is refused where it is used
            reached = logits.requires_grad and torch.autograd.grad(logits.sum(), leaf, allow_unused=True)[0] is not None
            if not reached:
                raise InputError(NO_GRADIENT)
    again = [name for name, count in runs.items() if count > 1]
    if not again:
        return model
    try:
        with TRACING:  # which patches all modules of the process
            traced = fx.symbolic_trace(model)
    except Exception as error:  # whatever a model's own code does with a proxy
        raise InputError(
            f"model: DeepLift needs {again[0]!r} to run once in a forward, and the model cannot be traced to split it "
            f"({error}); give each use a module of its own"
        ) from error
    for number, node in enumerate(traced.graph.nodes):
        if node.op == "call_module" and node.target in again:
            name = f"{node.target.replace('.', '_')}_run{number}"
            traced.add_submodule(name, copy.deepcopy(traced.get_submodule(node.target)))
            node.target = name
    traced.recompile()
    return traced.eval()
