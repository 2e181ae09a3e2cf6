"""What FunnyBirds' files, their renderer and their scores agree on: parts, part-map colors, subsets of parts.

Hesse et al., "FunnyBirds: A Synthetic Vision Dataset for a Part-Based Analysis of Explainable AI Methods", ICCV 2023.
"""

from collections.abc import Mapping, Sequence

PARTS = ("beak", "eye", "foot", "tail", "wing")
"""The removable parts, in the order in which every table here counts them."""
Color = tuple[int, int, int]
PART_COLORS: dict[str, tuple[Color, ...]] = {
    "beak": ((255, 255, 0),),
    "eye": ((255, 255, 253), (255, 255, 254)),
    "foot": ((255, 0, 1), (255, 0, 2)),
    "tail": ((0, 0, 255),),
    "wing": ((0, 255, 1), (0, 255, 2)),
}
"""Colors of each part in a part map, one for each of its sides."""
BODY_COLOR: Color = (170, 170, 170)
EMPTY_COLOR: Color = (0, 0, 0)
MAX_OBJECTS = 50
"""Background objects that a part map can distinguish."""
SUBSETS = 2 ** len(PARTS)
"""Sets of parts that a bird can be drawn with; set s has part p where bit p of s is 1, so the last has all."""


def object_color(position: int) -> Color:
    """Color of a background object in a part map; objects are counted from 0."""
    return (204, 204, 204 + position)


def subset_parts(subset: int) -> list[str]:
    """Parts of a set.

    >>> subset_parts(0b10011)
    ['beak', 'eye', 'wing']
    """
    return [part for position, part in enumerate(PARTS) if subset >> position & 1]


def intervention_name(subset: int) -> str:
    """File of the scene drawn again with the parts of a set alone.

    >>> intervention_name(0b10001), intervention_name(0)
    ('body_beak_wing.png', 'body_.png')
    """
    return f"body_{'_'.join(subset_parts(subset))}.png"


def shared_parts(one: Mapping[str, int], other: Mapping[str, int]) -> int:
    """The set of parts that two birds have alike, each given as its parts' variants.

    >>> bird = {"beak": 1, "eye": 0, "foot": 0, "tail": 0, "wing": 0}
    >>> subset_parts(shared_parts(bird, bird | {"beak": 2, "wing": 3}))
    ['eye', 'foot', 'tail']
    """
    return sum(1 << position for position, part in enumerate(PARTS) if one[part] == other[part])


def sensitivity_pair(birds: Sequence[Mapping[str, int]], label: int) -> tuple[int, int, int, int]:
    """Two other birds that share two parts with this one each: the pair of Target Sensitivity.

    Returns:
        The first pair without a common shared part or, as in the authors' code, if there is none the last pair, with
        its sets of shared parts: (bird 1, bird 2, set 1, set 2). All -1 if less than two birds share two parts, which
        the authors' code does not foresee.
    """
    shared = [(position, shared_parts(birds[label], bird)) for position, bird in enumerate(birds)]
    near = [(position, parts) for position, parts in shared if parts.bit_count() == len(PARTS) - 3]
    pairs = [(a, b, p, q) for i, (a, p) in enumerate(near) for b, q in near[i + 1 :]]
    disjoint = (pair for pair in pairs if not pair[2] & pair[3])
    return next(disjoint, pairs[-1] if pairs else (-1, -1, -1, -1))
