"""Class activation maps: weighted sums of a layer's activations."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from refinecam.attribution.capture import LayerRecord, record_layers
from refinecam.attribution.layers import layers_of, stage_layers
from refinecam.attribution.layouts import Layout, check_layout
from refinecam.attribution.method import AttributionMethod, as_stage, normalize, register, resize
from refinecam.core.errors import InputError, check_choice, check_range
from refinecam.core.running import Targets, as_targets, bare, owned

Activations = Literal["signed", "rectified", "centered"]
EPSILON = 1e-6
"""In the denominator of Grad-CAM++, as in the reference implementations."""


class CAM(AttributionMethod):
    """A class activation map at one stage.

    Args:
        stage: index from shallow (0) to deep (-1, the default), a layer's name, or the layer itself.
        layout: of what the layers put out, where it is not plain, for all or as a dict for each of some; see
            :func:`~refinecam.attribution.layouts.to_nchw`.
    """

    def __init__(self, stage: int | str | nn.Module = -1, layout: Layout | None = None) -> None:
        check_layout(layout)
        self.stage: int | str | nn.Module = as_stage(stage)
        self.layout = layout

    def layers(self, model: nn.Module, image: Tensor | None = None) -> list[str]:
        """The layer of ``stage``."""
        return layers_of(model, [self.stage], image=image)

    def explain(self, model: nn.Module, image: Tensor, target: Tensor) -> Tensor:
        """Map at ``stage``, resized to the image; see :class:`~refinecam.attribution.method.AttributionMethod`."""
        return self.maps(model, image, target, [self.stage])[0]

    def maps(
        self,
        model: nn.Module,
        image: Tensor,
        target: Targets = None,
        stages: Sequence[int | str | nn.Module] | None = None,
    ) -> list[Tensor]:
        """Maps at several stages from the network's work for one: a forward and a backward for most CAMs.

        Args:
            model: classifier, images to logits (N, K). Left exactly as it was.
            image: normalized images, shape (N, C, H, W).
            target: class of each image, as for :meth:`__call__`.
            stages: indices from shallow (0) to deep (-1), layers' names or layers; None for all stages, shallow to
                deep.

        Returns:
            For each stage, maps of shape (N, 1, H, W) in [0, 1], as from a CAM at that stage.
        """
        model = bare(model)
        target = as_targets(model, image, target)
        if isinstance(self.layout, Mapping):
            unknown = self.layout.keys() - {name for name, _ in model.named_modules(remove_duplicate=False)}
            if unknown:
                listed = ", ".join(map(repr, sorted(unknown)))
                raise InputError(f"layout: no layer named {listed}; name those of the model")
        with owned(model):
            layers = stage_layers(model, image) if stages is None else layers_of(model, stages, image=image)
            return [normalize(resize(raw.relu(), image.shape[2:])) for raw in self.raw(model, image, target, layers)]

    @abstractmethod
    def raw(self, model: nn.Module, image: Tensor, target: Tensor, layers: Sequence[str]) -> list[Tensor]:
        """Signed maps of several layers, sharing what can be shared.

        Args:
            model: classifier, images to logits.
            image: shape (N, C, H, W).
            target: int64, shape (N,).
            layers: module names.

        Returns:
            One map (N, 1, h, w) for each layer, before ReLU and normalization, usually at the layer's own resolution.
        """


class GradientCAM(CAM):
    """A CAM that needs a layer's activation and gradient, and those of all layers from one forward and backward.

    Args:
        stage: see :class:`CAM`.
        layout: likewise.
        activations: what is weighted: the layer's ``"signed"`` values, as in the published code; ``"rectified"`` ones,
            negative values as 0, which are the same after a ReLU and help where there is none (ConvNeXt, Swin); or
            what exceeds each channel's spatial mean (``"centered"``).
    """

    def __init__(
        self, stage: int | str | nn.Module = -1, layout: Layout | None = None, activations: Activations = "signed"
    ) -> None:
        super().__init__(stage, layout)
        check_choice(get_args(Activations), activations=activations)
        self.activations: str = activations

    def raw(self, model: nn.Module, image: Tensor, target: Tensor, layers: Sequence[str]) -> list[Tensor]:
        """Signed maps at the layers' own resolution; see :class:`CAM`."""
        records = record_layers(model, image, target, layers, self.layout)
        return [self.weigh(record._replace(activation=self._weighted(record.activation))) for record in records]

    def _weighted(self, activation: Tensor) -> Tensor:
        if self.activations == "signed":
            return activation
        level = activation.mean((2, 3), keepdim=True) if self.activations == "centered" else 0
        return (activation - level).relu()

    @abstractmethod
    def weigh(self, record: LayerRecord) -> Tensor:
        """Signed map (N, 1, h, w) from a layer's activation and gradient."""


@register
class GradCAM(GradientCAM):
    """Channels weighted by the spatial mean of their gradient (Selvaraju et al., ICCV 2017)."""

    def weigh(self, record: LayerRecord) -> Tensor:
        """Sum over channels of mean gradient times activation."""
        weights = record.gradient.mean((2, 3), keepdim=True)
        return (weights * record.activation).sum(1, keepdim=True)


@register
class GradCAMPlusPlus(GradientCAM):
    """Channels weighted by their positive gradients, scaled pixel by pixel (Chattopadhyay et al., WACV 2018).

    The weights are made for activations that are not negative: elsewhere their denominator may be 0 or negative.

    Args:
        stage: see :class:`CAM`.
        layout: likewise.
        activations: see :class:`GradientCAM`.
        epsilon: in the denominator; the published formula has 0, the reference implementations 1e-6, which weakens
            gradients below 0.001. With either the map depends on the scale of the logits, as the formula does.
    """

    def __init__(
        self,
        stage: int | str | nn.Module = -1,
        layout: Layout | None = None,
        activations: Activations = "signed",
        epsilon: float = EPSILON,
    ) -> None:
        super().__init__(stage, layout, activations)
        check_range(0, epsilon=epsilon)
        self.epsilon = epsilon

    @property
    def short_name(self) -> str:
        """The name that everybody writes."""
        return "GradCAM++"

    def weigh(self, record: LayerRecord) -> Tensor:
        r"""Sum over channels of weight times activation, with pixel weights g²/(2g² + g³·ΣA)."""
        activation, gradient = record
        square = gradient**2
        denominator = 2 * square + activation.sum((2, 3), keepdim=True) * square * gradient + self.epsilon
        alpha = torch.where(denominator != 0, square / denominator, 0)
        weights = (gradient.relu() * alpha).sum((2, 3), keepdim=True)
        return (weights * activation).sum(1, keepdim=True)


@register
class LayerCAM(GradientCAM):
    """Each activation weighted by its own positive gradient (Jiang et al., TIP 2021): sharp at shallow stages."""

    def weigh(self, record: LayerRecord) -> Tensor:
        """Sum over channels of positive gradient times activation."""
        return (record.gradient.relu() * record.activation).sum(1, keepdim=True)
