"""FunnyBirds' scores as functions: what a map says of a bird's parts against what removing them does.

Hesse et al., "FunnyBirds: A Synthetic Vision Dataset for a Part-Based Analysis of Explainable AI Methods", ICCV 2023.
The rules, down to what is skipped and how ties fall, are those of the authors' evaluation code.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from refinecam.core.errors import InputError
from refinecam.core.precision import wide
from refinecam.data.funnybirds.parts import (
    MAX_OBJECTS,
    PART_COLORS,
    PARTS,
    SUBSETS,
    Color,
    object_color,
    sensitivity_pair,
    shared_parts,
)

THRESHOLDS = torch.linspace(0.01, 0.50, 80, dtype=torch.float64)
"""Shares of a map's sum above which a part may be called important."""
RELEVANT = 0.05
"""Share of the class's logit that the removal of a relevant part or object costs at least."""
BirdClass = Mapping[str, Any]
"""An entry of classes.json: ``{"class_idx": 3, "parts": {"beak": 1, …}}``."""


def part_weights(part_maps: Tensor, objects: int = 0) -> Tensor:
    """Where each part and background object is, dilated by a 5×5 maximum.

    Args:
        part_maps: part maps in the data set's colors, 0 to 255, shape (N, 3, H, W).
        objects: background objects to look for, the first so many.

    Returns:
        Float tensor (N, 5 + objects, H, W): parts in the order of :data:`.PARTS`, then objects.
        Sides are dilated one by one and added: 2 where both are within reach.

    Raises:
        InputError: for another shape, or more objects than a part map can distinguish.
    """
    if part_maps.ndim != 4 or part_maps.shape[1] != 3:
        raise InputError(f"part_maps: expected colors 0 to 255, shape (N, 3, H, W), got {tuple(part_maps.shape)}")
    if not 0 <= objects <= MAX_OBJECTS:
        raise InputError(f"objects: expected 0 to {MAX_OBJECTS}, got {objects}")

    def reach(color: Color) -> Tensor:
        there = (part_maps == part_maps.new_tensor(color)[:, None, None]).all(1, keepdim=True)
        return F.max_pool2d(there.float(), 5, stride=1, padding=2)

    parts = [torch.cat([reach(color) for color in PART_COLORS[part]], 1).sum(1) for part in PARTS]
    return torch.stack([*parts, *(reach(object_color(position)).squeeze(1) for position in range(objects))], 1)


def check_sizes(maps: Tensor, part_maps: Tensor) -> None:
    """Refuse maps that do not lie over their part maps."""
    if maps.ndim != 4 or maps.shape != (len(part_maps), 1, *part_maps.shape[2:]) or not maps.is_floating_point():
        raise InputError(
            f"maps: expected a float tensor {(len(part_maps), 1, *part_maps.shape[2:])}, as the part maps are, got "
            f"{maps.dtype} {tuple(maps.shape)}"
        )


def importance_of(maps: Tensor, weights: Tensor) -> Tensor:
    """Importances (N, P), float64, from maps (N, 1, H, W) and :func:`part_weights` (N, P, H, W)."""
    with torch.autocast(maps.device.type, enabled=False):  # which would round the sums that are compared
        return (wide(weights.flatten(2)) @ wide(maps).flatten(1)[:, :, None]).squeeze(2)


def important_parts(maps: Tensor, importance: Tensor) -> Tensor:
    """Which parts a map calls important: those with more than a share of its sum, for each of :data:`THRESHOLDS`.

    Args:
        maps: attribution maps, shape (N, 1, H, W).
        importance: see :func:`importance_of`, shape (N, P).

    Returns:
        Bool tensor (N, T, P).
    """
    total = wide(maps).sum((1, 2, 3))[:, None]
    least = total * THRESHOLDS.to(total.device)
    return importance[:, None] > least[:, :, None]


def subset_codes(important: Tensor) -> Tensor:
    """The set of important parts as a number, bit p for part p: (…, 5 or more) bool to (…) int64."""
    bits = 2 ** torch.arange(len(PARTS), device=important.device)
    return (important[..., : len(PARTS)] * bits).sum(-1)


def minimal_sufficient_sets(classes: Sequence[BirdClass], label: int) -> list[int]:
    """Smallest sets of parts that no other class has alike, as bit sets.

    >>> from refinecam.data.funnybirds.parts import subset_parts
    >>> classes = [{"parts": dict(beak=b, eye=e, foot=0, tail=0, wing=0)} for b, e in ((0, 0), (0, 1), (1, 1))]
    >>> [[subset_parts(s) for s in minimal_sufficient_sets(classes, label)] for label in range(3)]
    [[['eye']], [['beak', 'eye']], [['beak']]]
    """
    own = classes[label]["parts"]
    alike = {shared_parts(own, other["parts"]) for position, other in enumerate(classes) if position != label}
    sufficient = [s for s in range(1, SUBSETS) if all(s & ~shared for shared in alike)]
    return [s for s in sufficient if not any(t != s and t & s == t for t in sufficient)]


def sufficiency_table(classes: Sequence[BirdClass]) -> Tensor:
    """Controlled Synthetic Data Check of each class for each set of important parts, shape (classes, 32).

    The largest share of a minimal sufficient set that is called important. 0 for the last class: the authors' code
    finds no sufficient set for it, and so scores compare with the published ones.

    Args:
        classes: entries of classes.json, in their order.
    """
    table = torch.zeros(len(classes), SUBSETS, dtype=torch.float64)
    for label in range(len(classes) - 1):
        sets = minimal_sufficient_sets(classes, label)
        for result in range(SUBSETS):
            table[label, result] = max(((result & s).bit_count() / s.bit_count() for s in sets), default=0)
    return table


def controlled_synthetic_data_check(codes: Tensor, labels: Tensor, table: Tensor) -> Tensor:
    """CSDC for each threshold, shape (N, T), of codes (N, T), labels (N,) and a :func:`sufficiency_table`."""
    return table.to(codes.device)[labels[:, None], codes]


def preservation_check(codes: Tensor, subset_predictions: Tensor) -> Tensor:
    """PC: does the prediction stay if only the important parts are left?

    Args:
        codes: sets of important parts, shape (N, T).
        subset_predictions: predicted class with each set of parts, then of the image itself, shape (N, 33).

    Returns:
        1 or 0, shape (N, T).
    """
    return (subset_predictions.gather(1, codes) == subset_predictions[:, -1:]).float()


def deletion_check(codes: Tensor, subset_predictions: Tensor) -> Tensor:
    """DC: does the prediction change if the important parts are removed? As :func:`preservation_check`."""
    return (subset_predictions.gather(1, SUBSETS - 1 - codes) != subset_predictions[:, -1:]).float()


def irrelevant_parts(clean: Tensor, without: Tensor) -> Tensor:
    """What the network does not need: its removal changes the class's logit by less than 5%, or raises it.

    Args:
        clean: logit of the class, shape (N,).
        without: logit without each part or object, shape (N, P); NaN where there is none.

    Returns:
        Bool tensor (N, P).
    """
    clean, without = wide(clean)[:, None], wide(without)
    return ((clean - without).abs() < (clean * RELEVANT).abs()) | (clean < without)


def distracted_share(important: Tensor, irrelevant: Tensor) -> Tensor:
    """1 - D: the share of irrelevant parts and objects that are called important, float64, shape (N, T).

    NaN where nothing is irrelevant.
    """
    return wide((important & irrelevant[:, None]).sum(2)) / irrelevant.sum(1)[:, None]


def single_deletion(drops: Tensor, importance: Tensor) -> Tensor:
    """SD: rank correlation of logit drops and importances, (N, 5) each, mapped to [0, 1]; shape (N,).

    Equal values share their mean rank. NaN where all drops or all importances are equal, or any is NaN.
    """
    one, other = _ranks(wide(drops)), _ranks(wide(importance))
    one, other = one - one.mean(1, keepdim=True), other - other.mean(1, keepdim=True)
    return (one * other).sum(1) / ((one**2).sum(1) * (other**2).sum(1)).sqrt() * 0.5 + 0.5


def _ranks(values: Tensor) -> Tensor:
    less = (values[:, None] < values[:, :, None]).sum(2)
    equal = (values[:, None] == values[:, :, None]).sum(2)
    ranks = less + (equal + 1) / 2
    return wide(ranks.masked_fill(values.isnan().any(1, keepdim=True), torch.nan))


def sensitivity_pairs(classes: Sequence[BirdClass]) -> Tensor:
    """For each class two others that share two parts with it each, and these sets, if possible without a common part.

    Returns:
        :func:`~refinecam.data.funnybirds.parts.sensitivity_pair` of each class, shape (classes, 4), int64.
    """
    return torch.tensor([sensitivity_pair([c["parts"] for c in classes], label) for label in range(len(classes))])


def background_independence(clean: Tensor, without: Tensor) -> Tensor:
    """BI, for each image: background objects that the network does not need, and all of them, shape (N, 2).

    Args:
        clean: logit of the class, shape (N,).
        without: logit without each object, shape (N, K); NaN where there is none.
    """
    clean, without = wide(clean)[:, None], wide(without)
    there = ~without.isnan()
    needed = ((clean - without).abs() >= (clean * RELEVANT).abs()) & (clean > without)
    return torch.stack([(there & ~needed).sum(1), there.sum(1)], 1)
