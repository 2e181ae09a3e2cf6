"""RefineCAM: deep layers say what, shallow layers say exactly where."""

from collections.abc import Sequence
from math import log
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from refinecam.attribution.cams import CAM
from refinecam.attribution.layers import layers_of, stage_layers
from refinecam.attribution.method import AttributionMethod, as_stage, name_of, normalize, register
from refinecam.core.calls import written
from refinecam.core.errors import InputError, check_choice

Aggregator = Literal["product", "geometric_mean", "inverse_exp_mean", "identity"]


@register
class RefineCAM(AttributionMethod):
    r"""Product of a CAM over a stage and all deeper ones (How to Evaluate and Refine your CAM, ICPR 2026).

    .. math:: \mathrm{RefineCAM}_k = \mathrm{minmax}\Big(\prod_{l \ge k} U(\mathrm{CAM}_l)\Big)

    U resizes bilinearly to the image; each factor is min-max normalized. The paper's other aggregators are the
    geometric mean, the inverse-exp mean :math:`1 / \ln(\frac1n \sum_l e^{1 / \mathrm{CAM}_l})`, 0 where a factor is 0,
    and the identity, the map of the stage alone.

    At a shallow stage, Grad-CAM, ShapleyCAM and GuidedGradCAM are 0 everywhere for many images, and so is every product
    with it: refine GradCAM++ or LayerCAM, or start at a deeper stage.

    Args:
        cam: any CAM, its own ``stage`` left at the default.
        aggregator: how the stages are joined.
        stage: the shallowest factor, an index from shallow (0, the default) to deep (-1), or one of the stages or its
            name.
        layers: layers to use as stages, or their names, shallow to deep.
    """

    def __init__(
        self,
        cam: CAM,
        aggregator: Aggregator = "product",
        stage: int | str | nn.Module = 0,
        layers: Sequence[str | nn.Module] | None = None,
    ) -> None:
        if not isinstance(cam, CAM):
            raise InputError(f"cam: RefineCAM works around a CAM, such as LayerCAM(), got {cam!r:.60}")
        if cam.stage != -1:
            raise InputError(
                f"cam: leave the stage out of {cam!r}; RefineCAM's own is its shallowest factor: "
                f"RefineCAM(…, stage={cam.stage!r})"
            )
        if layers is not None and not (
            isinstance(layers, list | tuple) and all(isinstance(n, str | nn.Module) for n in layers)
        ):
            raise InputError(f"layers: expected a list of layers or their names, got {layers!r}")
        if layers is not None and not len(layers) == len(set(layers)) > 0:
            raise InputError(f"layers: expected at least one, each once, got {layers!r}")
        check_choice(get_args(Aggregator), aggregator=aggregator)
        self.cam, self.factors, self.passes = cam, layers, cam.passes
        self.stage: int | str | nn.Module = as_stage(stage)
        self.aggregator: str = aggregator

    def __repr__(self) -> str:
        layers = f", layers=[{', '.join(map(written, self.factors))}]" if self.factors else ""
        return f"RefineCAM({self.cam!r}, aggregator={self.aggregator!r}, stage={written(self.stage)}{layers})"

    @property
    def name(self) -> str:
        """Name with the CAM that is refined, and with its layers if they were given."""
        return f"RefineCAM({', '.join([self.cam.name, *map(name_of, self.factors or [])])})"

    def explain(self, model: nn.Module, image: Tensor, target: Tensor) -> Tensor:
        """Refined map, resized to the image; see :class:`~refinecam.attribution.method.AttributionMethod`."""
        return normalize(aggregate(self.cam.maps(model, image, target, self.layers(model, image)), self.aggregator))

    def first_again(self, model: nn.Module, image: Tensor, masked: Tensor, target: Tensor) -> Tensor:
        """Refined maps of masked images, with the deeper factors of the whole ones, as the paper's public code has it.

        Args:
            model: classifier, images to logits.
            image: the whole images, shape (N, C, H, W).
            masked: the masked ones.
            target: class of each, int64, shape (N,).

        Returns:
            Maps, shape (N, 1, H, W), in [0, 1].
        """
        first, *deeper = self.layers(model, image)
        maps = [*self.cam.maps(model, masked, target, [first])]
        maps += self.cam.maps(model, image, target, deeper) if deeper else []
        return normalize(aggregate(maps, self.aggregator))

    def layers(self, model: nn.Module, image: Tensor | None = None) -> list[str]:
        """The factors: the chosen stage and all deeper ones."""
        layers = layers_of(model, self.factors, "layers") if self.factors else stage_layers(model, image)
        if isinstance(self.stage, int) and -len(layers) <= self.stage < len(layers):
            first = self.stage % len(layers)
        elif not isinstance(self.stage, int) and (name := layers_of(model, [self.stage])[0]) in layers:
            first = layers.index(name)
        else:
            listed = ", ".join(f"{i} ({name})" for i, name in enumerate(layers))
            raise InputError(f"stage: no stage {self.stage!r} to refine from; there are {listed}")
        return layers[first : first + 1] if self.aggregator == "identity" else layers[first:]


def aggregate(maps: Sequence[Tensor], aggregator: str) -> Tensor:
    """Join maps of equal shape with values in [0, 1]; no step overflows or divides 0 by 0, down to maps that are 0.

    >>> maps = [torch.tensor([0.5, 0.0]), torch.tensor([0.125, 1.0])]
    >>> aggregate(maps, "product"), aggregate(maps, "geometric_mean")
    (tensor([0.0625, 0.0000]), tensor([0.2500, 0.0000]))
    """
    stacked = torch.stack(list(maps))
    if aggregator == "identity":
        return stacked[0]
    if aggregator == "geometric_mean":
        return stacked.log().mean(0).exp()
    if aggregator == "inverse_exp_mean":
        return 1 / (stacked.reciprocal().logsumexp(0) - log(len(stacked)))
    return stacked.prod(0)
