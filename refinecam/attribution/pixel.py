"""Methods that need no layer, only the image's gradient: thin adapters over captum."""

import copy
import warnings
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import captum.attr
import torch
from captum.attr._core.deep_lift import SUPPORTED_NON_LINEAR
from torch import Tensor, fx, nn

from refinecam.attribution.method import AttributionMethod, normalise
from refinecam.errors import InputError
from refinecam.network import check_input, check_logits, eval_mode


class PixelMethod(AttributionMethod):
    """Attributions of the input's values: summed over the channels, then the absolute value, then min-max."""

    def __call__(self, model: nn.Module, image: Tensor, target: Tensor) -> Tensor:
        """Map at the image's resolution; see :class:`~refinecam.attribution.method.AttributionMethod`."""
        check_input(image, target)
        if torch.is_inference_mode_enabled():
            raise InputError(
                "gradients are needed but inference mode is on: use torch.no_grad() instead, or, under Lightning, "
                "Trainer(inference_mode=False)"
            )
        if not len(image):
            return image.new_zeros(0, 1, *image.shape[2:])
        with eval_mode(model), torch.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # captum warns of the hooks that it sets and removes
            values = self.attribute(model, image.detach().clone().requires_grad_(), target)
        return normalise(values.detach().float().sum(1, keepdim=True).abs())

    @abstractmethod
    def attribute(self, model: nn.Module, image: Tensor, target: Tensor) -> Tensor:
        """Signed attributions, shape (N, C, H, W); the model is in eval mode and gradients are on."""


class InputXGradient(PixelMethod):
    """Input times gradient of the class score (Shrikumar et al., 2016)."""

    def attribute(self, model: nn.Module, image: Tensor, target: Tensor) -> Tensor:
        """From one forward and one backward."""
        return captum.attr.InputXGradient(_Checked(model, target)).attribute(image, target)


class IntegratedGradients(PixelMethod):
    """Gradients integrated on the straight line from a zero image (Sundararajan et al., ICML 2017).

    Args:
        steps: points of the Gauss-Legendre quadrature.
        chunk: images that go through the network at once; bounds the memory and does not change the map.
    """

    def __init__(self, steps: int = 50, chunk: int = 64) -> None:
        for name, value in (("steps", steps), ("chunk", chunk)):
            if value < 1:
                raise InputError(f"{name}: expected at least 1, got {value}")
        self.steps, self.chunk = steps, chunk

    def __repr__(self) -> str:
        return f"IntegratedGradients(steps={self.steps}, chunk={self.chunk})"

    def attribute(self, model: nn.Module, image: Tensor, target: Tensor) -> Tensor:
        """From ``steps`` forwards and backwards an image."""
        explainer = captum.attr.IntegratedGradients(_Checked(model, target))
        chunk = max(self.chunk, len(image))  # captum takes at least one step of all images at once
        return explainer.attribute(image, target=target, n_steps=self.steps, internal_batch_size=chunk)


class DeepLift(PixelMethod):
    """Differences to a zero image, propagated back by the rescale rule (Shrikumar et al., ICML 2017).

    The rule concerns ReLU-like modules, poolings and softmax; through everything else, GELU among it, the gradient goes
    as it is. Captum needs such modules to run once and not in place: a module that runs in place does not for the time
    of the call, and a network that runs one several times is traced, with a module for each run.
    """

    def attribute(self, model: nn.Module, image: Tensor, target: Tensor) -> Tensor:
        """From one forward and one backward of images and baseline together."""
        with _not_in_place(model):
            network = _each_module_once(model, image[:1].detach())
            return captum.attr.DeepLift(_Checked(network, target)).attribute(image, target=target)


class _Checked(nn.Module):
    """The model, with logits and targets checked where captum would fail in its own words."""

    def __init__(self, model: nn.Module, target: Tensor) -> None:
        super().__init__()
        self.model, self.target = model, target

    def forward(self, x: Tensor) -> Tensor:
        logits = self.model(x)
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


def _each_module_once(model: nn.Module, image: Tensor) -> nn.Module:
    """The model itself if no non-linear module runs twice; otherwise a traced copy that shares its parameters."""
    runs: Counter[str] = Counter()

    def counter(name: str) -> Any:
        return lambda *_: runs.update([name])

    handles = [
        module.register_forward_hook(counter(name))
        for name, module in model.named_modules()
        if type(module) in SUPPORTED_NON_LINEAR
    ]
    try:
        with torch.no_grad():
            model(image)
    finally:
        for handle in handles:
            handle.remove()
    again = [name for name, count in runs.items() if count > 1]
    if not again:
        return model
    try:
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
