"""Activations and gradients of several layers in one forward and one backward, leaving no trace in the model."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from refinecam.attribution.layouts import Layout, to_nchw
from refinecam.core.checks import check_input
from refinecam.core.errors import InputError
from refinecam.core.running import check_gradients_possible, check_not_scripted, eagerly, eval_mode, first_logits


class LayerRecord(NamedTuple):
    """What one layer did for a batch, both of shape (N, C, h, w)."""

    activation: Tensor
    gradient: Tensor


@contextmanager
def recorded_outputs(model: nn.Module, layers: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Record the outputs of some layers, of their last run if they run several times, where gradients can reach them.

    The network goes on with a copy, so that a following in-place activation does not overwrite the record. Where the
    output does not need gradients (a frozen model), the graph starts here. The hooks go with the context.
    """
    outputs: dict[str, Tensor] = {}
    modules = dict(model.named_modules(remove_duplicate=False))

    def hook_for(name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> Tensor:
            if not isinstance(output, Tensor):
                raise InputError(f"stage: layer {name!r} puts out a {type(output).__name__}, not a tensor")
            if torch.is_grad_enabled() and not output.requires_grad:
                output = output.detach().requires_grad_()
            outputs[name] = output
            return output.clone()

        return hook

    check_not_scripted(model, layers, "stage")
    with ExitStack() as hooks, eagerly(model):
        for name in layers:
            hooks.enter_context(modules[name].register_forward_hook(hook_for(name)))
        yield outputs


@contextmanager
def differentiable_forward(
    model: nn.Module, image: Tensor, target: Tensor, layers: Sequence[str]
) -> Iterator[tuple[Tensor, list[Tensor]]]:
    """One forward with gradients on, whatever the caller's mode; the hooks are there until the context ends.

    Yields:
        The targets' logits, shape (N,), and the layers' outputs in their own layouts, with their graph.

    Raises:
        InputError: for inference mode, a target out of range, or a layer that did not run, or only without gradients.
    """
    check_input(image, target)
    check_gradients_possible()
    with eval_mode(model), recorded_outputs(model, layers) as outputs, torch.enable_grad():
        logits = first_logits(model, image, target)
        check_layers_ran(layers, outputs)
        cut = [name for name in layers if not outputs[name].requires_grad]
        if cut:
            raise InputError(
                f"stage: layer {cut[0]!r} runs without gradients, under torch.no_grad() or reentrant checkpointing in "
                "the model's own forward; use use_reentrant=False there, or take a layer behind it"
            )
        yield logits.gather(1, target[:, None]).squeeze(1), [outputs[name] for name in layers]


def check_layers_ran(layers: Sequence[str], outputs: Mapping[str, Tensor]) -> None:
    """Refuse layers that have no output.

    Raises:
        InputError: naming the first.
    """
    missing = [name for name in layers if name not in outputs]
    if missing:
        raise InputError(f"stage: layer {missing[0]!r} did not run for this input")


def gradients_of(scores: Tensor, outputs: Sequence[Tensor], layers: Sequence[str], **options: Any) -> list[Tensor]:
    """Gradients of the sum of the scores with respect to the layers' outputs.

    Raises:
        InputError: if the scores do not depend on one of them.
    """
    result = torch.autograd.grad(scores.sum(), outputs, allow_unused=True, **options) if scores.requires_grad else ()
    gradients = [gradient for gradient in result if gradient is not None]
    if len(gradients) < len(outputs):
        raise InputError(
            f"stage: the class score does not depend on one of the layers {', '.join(layers)}, or the way to it is cut "
            "by .detach(), torch.no_grad() or quantized layers in the model's forward; take layers behind that"
        )
    return gradients


def record_layers(
    model: nn.Module, image: Tensor, target: Tensor, layers: Sequence[str], layout: Layout | None = None
) -> list[LayerRecord]:
    """Activations of some layers and the gradients of the target's logit with respect to them.

    No parameter's ``grad`` is written; flags, modes and hooks are as before afterwards.

    Args:
        model: classifier, images to logits (N, K).
        image: shape (N, C, H, W).
        target: int64, shape (N,).
        layers: module names.
        layout: of the layers' outputs, where the caller knows it.

    Returns:
        One record a layer, in the given order, detached.

    Raises:
        InputError: for inference mode, a target out of range, a layer that did not run or has no influence.
    """
    with differentiable_forward(model, image, target, layers) as (scores, outputs):
        gradients = gradients_of(scores, outputs, layers)
    return [
        LayerRecord(*(to_nchw(model, name, result.detach(), image, layout) for result in pair))
        for name, *pair in zip(layers, outputs, gradients, strict=True)
    ]
