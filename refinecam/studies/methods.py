"""The methods that the paper compares."""

from collections.abc import Sequence

CAMS = ("GradCAM++", "GuidedGradCAM", "LayerCAM", "ScoreCAM", "ShapleyCAM")
"""Of Tables 1 and 2."""
TRIVIAL = ("RandomCAM", "HalfCAM", "All1sCAM")
AGGREGATORS = ("inverse_exp_mean", "geometric_mean", "product")


def shallow(cams: Sequence[str] = CAMS) -> list[str]:
    """CAMs at the shallowest stage."""
    return [f"{cam}(stage=0)" for cam in cams]


def refined(cams: Sequence[str] = CAMS, aggregator: str = "product") -> list[str]:
    """Refined from the shallowest stage on."""
    return [f"RefineCAM({cam}, aggregator='{aggregator}')" for cam in cams]


def without_layers(presets: Sequence[str]) -> list[str]:
    """Methods that need no layer, with LIME and KernelSHAP of a preset."""
    return ["InputXGradient", "IntegratedGradients", "DeepLift", *presets]
