"""What every attribution method is: a callable from model, image and class to a map."""

from abc import ABC, abstractmethod
from functools import partial
from numbers import Integral
from typing import Any, Self, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refinecam.core.calls import options_of
from refinecam.core.errors import InputError
from refinecam.core.memory import in_room
from refinecam.core.running import Targets, as_targets, bare, owned

METHODS: dict[str, type["AttributionMethod"]] = {}
"""Every attribution method by its name in configs."""
GRAD_CAM_ARGUMENTS = {"model", "target_layers", "reshape_transform", "base_method"}
"""Arguments of grad-cam's constructors, which take the model."""
UNNAMED = {"stage", "aggregator", "chunk"}
"""Options that a name leaves out: they have columns of their own, or do not change the map."""


class AttributionMethod(ABC):
    """``method(model, image, target)`` gives one map in [0, 1] for each image, each from its own image only.

    Attributes:
        stage: the stage it looks at, None for methods that have none.
        aggregator: how several stages are joined, None for methods that do not join any.
        passes: what a map costs, roughly, in forward passes; a backward is worth two.
    """

    stage: int | str | nn.Module | None = None
    aggregator: str | None = None
    passes: int = 3

    def __new__(cls, *args: Any, **options: Any) -> Self:
        """Answer what users of other libraries write."""
        first = args[0] if args else None
        listed = isinstance(first, list | tuple) and any(isinstance(value, nn.Module) for value in first)
        if GRAD_CAM_ARGUMENTS & options.keys() or listed or (isinstance(first, nn.Module) and len(args) > 1):
            raise InputError(
                f"{cls.__name__}: the model goes into the call, and a layer alone or none into the constructor: "
                "LayerCAM(model.layer4[-1])(model, images, targets), RefineCAM(LayerCAM())(model, images, targets)"
            )
        return super().__new__(cls)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(options_of(self))})"

    @property
    def name(self) -> str:
        """Name in tables and figures, without stage and aggregator, with every option that is not the default."""
        options = options_of(self, UNNAMED)
        return f"{self.short_name}({', '.join(options)})" if options else self.short_name

    @property
    def short_name(self) -> str:
        """Name without options."""
        return type(self).__name__

    @property
    def title(self) -> str:
        """Name with stage and aggregator, for figures and curves."""
        stage = [] if self.stage is None else [f"stage {self.stage_title}"]
        return ", ".join([self.name, *stage, *([self.aggregator] if self.aggregator else [])])

    @property
    def stage_title(self) -> str:
        """The stage as tables name it; empty where there is none."""
        return "" if self.stage is None else name_of(self.stage)

    def layers(self, model: nn.Module, image: Tensor | None = None) -> list[str]:
        """Names of the layers that it looks at, shallow to deep; none for methods that look at none.

        Args:
            model: the network.
            image: of the kind that it takes; used where the model says nothing of its stages, see
                :func:`~refinecam.attribution.stage_layers`.

        Raises:
            InputError: if the model does not have them.
        """
        return []

    def __call__(self, model: nn.Module, image: Tensor, target: Targets = None) -> Tensor:
        """Explain why ``model`` sees class ``target`` in ``image``.

        Args:
            model: classifier, images to logits (N, K). Left exactly as it was. Of DataParallel, DistributedDataParallel
                and torch.compile it is the network inside that is explained.
            image: normalized images, shape (N, C, H, W).
            target: class of each image, int64, shape (N,), a list or an array of them, or one class for all; None for
                the predicted ones.

        Returns:
            Maps, shape (N, 1, H, W), in [0, 1], on the device of ``image``. A map without any contrast is 0
            everywhere.

        Raises:
            InputError: if the input does not fit, or gradients are needed and inference mode is on.
        """
        model = bare(model)
        with owned(model):
            return in_room(partial(self.explain, model), image, as_targets(model, image, target))

    @abstractmethod
    def explain(self, model: nn.Module, image: Tensor, target: Tensor) -> Tensor:
        """What :meth:`__call__` does, for targets that are known to be classes, int64, shape (N,)."""


def as_stage(stage: Any) -> Any:
    """A stage as it is, NumPy's whole numbers as Python's."""
    return int(stage) if isinstance(stage, Integral) and not isinstance(stage, bool) else stage


def name_of(stage: int | str | nn.Module) -> str:
    """A stage as one would write it; of a module, its type."""
    return type(stage).__name__ if isinstance(stage, nn.Module) else str(stage)


Registered = TypeVar("Registered", bound=type[AttributionMethod])


def register(method: Registered) -> Registered:
    """Let configs and command lines name a method; a decorator of its class."""
    name = method.__name__
    if name in METHODS and METHODS[name].__module__ != method.__module__:
        raise InputError(f"name: {name!r} is {METHODS[name].__module__}'s already; choose another")
    METHODS[name] = method
    return method


def normalize(maps: Tensor) -> Tensor:
    """Min-max normalize each map to [0, 1]; a constant map becomes 0.

    >>> normalize(torch.tensor([[[[1.0, 2.0, 3.0]]], [[[5.0, 5.0, 5.0]]]])).flatten()
    tensor([0.0000, 0.5000, 1.0000, 0.0000, 0.0000, 0.0000])
    """
    low, high = maps.amin((1, 2, 3), keepdim=True), maps.amax((1, 2, 3), keepdim=True)
    span = high - low
    return (maps - low) / torch.where(span == 0, torch.ones_like(span), span)


def resize(maps: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """Resize maps (N, 1, h, w) bilinearly, in float32."""
    return F.interpolate(maps.float(), size=tuple(size), mode="bilinear", align_corners=False)
