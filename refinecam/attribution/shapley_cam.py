"""ShapleyCAM: Grad-CAM with a second-order term."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from refinecam.attribution.cams import CAM
from refinecam.attribution.capture import differentiable_forward, gradients_of
from refinecam.attribution.layouts import to_nchw
from refinecam.attribution.method import register
from refinecam.core.errors import InputError


class _Differentiable(TorchFunctionMode):
    """Write hard sigmoid and hard swish so that PyTorch knows their second derivatives."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (F.hardsigmoid, F.hardswish):
            gate = (args[0] / 6 + 0.5).clamp(0, 1)
            return gate if func is F.hardsigmoid else args[0] * gate
        return func(*args, **(kwargs or {}))


@register
class ShapleyCAM(CAM):
    r"""Channels weighted by the spatial mean of gradient minus half the Hessian-vector product (Cai, 2025).

    .. math:: w = \mathrm{mean}\Big(g - \tfrac12 H A\Big)

    with g and H the gradient and the Hessian of the class score with respect to the activations A. Where the network
    above the layer is piecewise linear, as with ReLU, H is 0 and the map is Grad-CAM's. The products of all layers come
    from one forward and one backward; each layer then needs one more backward through that.
    """

    def raw(self, model: nn.Module, image: Tensor, target: Tensor, layers: Sequence[str]) -> list[Tensor]:
        """Signed maps at the layers' own resolution; see :class:`~refinecam.attribution.cams.CAM`."""
        maps = []
        # The fused attention kernels have no second derivative.
        recorded = differentiable_forward(model, image, target, layers)
        with sdpa_kernel(SDPBackend.MATH), _Differentiable(), recorded as (scores, outputs):
            gradients = gradients_of(scores, outputs, layers, create_graph=True)
            for name, output, gradient in zip(layers, outputs, gradients, strict=True):
                activation = output.detach()
                product = torch.zeros_like(activation)
                if gradient.requires_grad:
                    along = (gradient * activation).sum()
                    try:
                        (result,) = torch.autograd.grad(along, output, allow_unused=True, retain_graph=True)
                    except RuntimeError as error:
                        if "derivative for" not in str(error):
                            raise
                        raise InputError(
                            f"model: ShapleyCAM needs second derivatives, which PyTorch does not have here ({error}); "
                            "leave it out for this network"
                        ) from error
                    product = product if result is None else result
                weight, activation = (
                    to_nchw(model, name, result, image, self.layout)
                    for result in (gradient.detach() - product / 2, activation)
                )
                maps.append((weight.mean((2, 3), keepdim=True) * activation).sum(1, keepdim=True))
        return maps
