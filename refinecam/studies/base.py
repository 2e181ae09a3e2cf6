"""What a study is: the evaluations that it needs, and what it finds in their rows."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from refinecam.studies.statistics import Interval

Needs = Mapping[str, tuple[Sequence[str], Sequence[str]]]
"""For each data set of the plan the methods, and the scores beside the usual ones."""


class Claim(NamedTuple):
    """A claim of the paper, as an effect that it says is above 0.

    Attributes:
        text: the claim.
        effect: what was measured, in words.
        where: data and network.
        estimate: the effect.
    """

    text: str
    effect: str
    where: str
    estimate: Interval

    @property
    def verdict(self) -> str:
        """Held where the whole interval is above 0, did not hold where it is below, undecided otherwise."""
        if self.estimate.low > 0:
            return "held"
        return "did not hold" if self.estimate.high < 0 else "undecided"


class Findings(NamedTuple):
    """What a study found.

    Attributes:
        tables: by name.
        figures: by name.
        claims: in the order in which they are read.
    """

    tables: dict[str, pd.DataFrame]
    figures: dict[str, Figure]
    claims: list[Claim]


class Study(NamedTuple):
    """A question to evaluations.

    Attributes:
        name: on the command line.
        title: what it asks.
        needs: what is to be evaluated, given LIME and KernelSHAP of a preset.
        find: from the rows of :func:`~refinecam.studies.tables.stack` to the answer.
        variants: further evaluations of the same methods, each with its options of the evaluation.
    """

    name: str
    title: str
    needs: Callable[[Sequence[str]], Needs]
    find: Callable[[pd.DataFrame], Findings]
    variants: Mapping[str, Mapping[str, Any]] = {}
