"""Guided Grad-CAM: a CAM that says where, guided backpropagation that says which pixels."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from refinecam.attribution.cams import CAM, GradCAM
from refinecam.attribution.capture import differentiable_forward, gradients_of, record_layers
from refinecam.attribution.method import register, resize


@register
class GuidedGradCAM(CAM):
    """Grad-CAM, enlarged, times guided backpropagation (Selvaraju et al., ICCV 2017; Springenberg et al., 2015).

    Guided backpropagation is the gradient of the class score with respect to the image where only positive gradients
    pass backwards through a ReLU. It concerns modules of type ``nn.ReLU`` alone: in a network without them, such as
    Swin and ConvNeXt with their GELU, it is the plain gradient, as in captum. The color channels are summed and the
    absolute value is taken. The map has the image's resolution at every stage.
    """

    def raw(self, model: nn.Module, image: Tensor, target: Tensor, layers: Sequence[str]) -> list[Tensor]:
        """Maps at the image's resolution; see :class:`~refinecam.attribution.cams.CAM`."""
        coarse = [GradCAM().weigh(record) for record in record_layers(model, image, target, layers, self.layout)]
        guided = guided_backpropagation(model, image, target).sum(1, keepdim=True).abs()
        return [resize(result.relu(), image.shape[2:]) * guided for result in coarse]


def guided_backpropagation(model: nn.Module, image: Tensor, target: Tensor) -> Tensor:
    """Gradient of the target's logit with respect to the image, with ReLUs that let only positive gradients back.

    Args:
        model: classifier, images to logits.
        image: shape (N, C, H, W).
        target: int64, shape (N,).

    Returns:
        Signed, shape (N, C, H, W).
    """
    leaf = image.detach().clone().requires_grad_()
    with _positive_gradients(model), differentiable_forward(model, leaf, target, []) as (scores, _):
        (gradient,) = gradients_of(scores, [leaf], ["image"])
    return gradient


@contextmanager
def _positive_gradients(model: nn.Module) -> Iterator[None]:
    def hook(module: nn.Module, args: Any, output: Tensor) -> None:
        if output.requires_grad:
            output.register_hook(torch.relu)

    with ExitStack() as hooks:
        for module in model.modules():
            if isinstance(module, nn.ReLU):
                hooks.enter_context(module.register_forward_hook(hook))
        yield
