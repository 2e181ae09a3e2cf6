"""Attribution methods written as text, for configs and command lines."""

import re
from collections.abc import Sequence

from refinecam.attribution.method import METHODS, AttributionMethod
from refinecam.core.calls import parse_calls


def parse_methods(text: str | Sequence[str]) -> list[AttributionMethod]:
    """Read methods as one would write them in Python; parentheses without arguments may be left out.

    Args:
        text: methods separated by commas, or a sequence of such texts; none is allowed.

    Raises:
        InputError: naming what cannot be read, and what exists.

    >>> [method.name for method in parse_methods("GradCAM++, LayerCAM(stage=0), RefineCAM(LayerCAM, stage=1)")]
    ['GradCAM++', 'LayerCAM', 'RefineCAM(LayerCAM)']
    """
    whole = text if isinstance(text, str) else ", ".join(text)
    return parse_calls(re.sub(r"(?i)gradcam\+\+", "GradCAMPlusPlus", whole), METHODS, "methods")
