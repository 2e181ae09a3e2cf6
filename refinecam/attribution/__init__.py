"""From a model, an image and a class to a map."""

import importlib
import pkgutil

from refinecam.attribution.cams import CAM, GradCAM, GradCAMPlusPlus, LayerCAM
from refinecam.attribution.guided import GuidedGradCAM
from refinecam.attribution.layers import Stage, stage_layers, stages
from refinecam.attribution.method import METHODS, AttributionMethod, register
from refinecam.attribution.parsing import parse_methods
from refinecam.attribution.pixel import DeepLift, InputXGradient, IntegratedGradients
from refinecam.attribution.refine import RefineCAM
from refinecam.attribution.score_cam import ScoreCAM
from refinecam.attribution.shapley_cam import ShapleyCAM
from refinecam.attribution.superpixel import LIME, KernelSHAP
from refinecam.attribution.trivial import All1sCAM, HalfCAM, RandomCAM

for _module in pkgutil.iter_modules(__path__):  # a method's file is all that it needs to be known by its name
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = [
    "CAM",
    "LIME",
    "METHODS",
    "All1sCAM",
    "AttributionMethod",
    "DeepLift",
    "GradCAM",
    "GradCAMPlusPlus",
    "GuidedGradCAM",
    "HalfCAM",
    "InputXGradient",
    "IntegratedGradients",
    "KernelSHAP",
    "LayerCAM",
    "RandomCAM",
    "RefineCAM",
    "ScoreCAM",
    "ShapleyCAM",
    "Stage",
    "parse_methods",
    "register",
    "stage_layers",
    "stages",
]
