import numpy as np
import pytest
from torch import nn

from refinecam.attribution import RandomCAM, RefineCAM, parse_methods
from refinecam.core.calls import options_of


@pytest.mark.parametrize(
    "text",
    [
        "GradCAM++, RefineCAM(LayerCAM, stage=1), RandomCAM(seed=3)",
        "[GradCAMPlusPlus(), RefineCAM(LayerCAM(), stage=1), RandomCAM(3)]",
        ["GradCAM++", "RefineCAM(LayerCAM", "stage=1)", "RandomCAM(3)"],
        ["GradCAM++", "RefineCAM(cam=LayerCAM(), stage=1)", "RandomCAM(3)"],
    ],
)
def test_forms(text):
    first, refined, noise = parse_methods(text)
    assert first.name == "GradCAM++"
    assert isinstance(refined, RefineCAM)
    assert (refined.name, refined.stage) == ("RefineCAM(LayerCAM)", 1)
    assert isinstance(noise, RandomCAM)
    assert noise.seed == 3


def test_repr_reads_back():
    for method in parse_methods("LayerCAM(stage='layer2'), RefineCAM(GradCAM++, stage=2), RandomCAM(4)"):
        (again,) = parse_methods(repr(method))
        assert repr(again) == repr(method)


def test_no_method_is_allowed():
    assert parse_methods("") == parse_methods([]) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("GradCam", r"there is no 'GradCam'; did you mean GradCAM\? There are GradCAM, "),
        ("refine_cam(LayerCAM)", r"did you mean RefineCAM\?"),
        ("Saliency", "there is no 'Saliency'; there are GradCAM, "),
        ("GradCAM(stage=", "cannot read"),
        ("GradCAM] + [GradCAM", "cannot read"),
        ("RefineCAM(LayerCAM, layers=[])", r"layers: expected at least one, each once, got \[\]"),
        ("RefineCAM(LayerCAM, layers=['a', 'a'])", "layers: expected at least one, each once"),
        ("GradCAM, GradCAM(stage=-1)", "'GradCAM, stage -1' is there twice"),
        ("LayerCAM(level=2)", "LayerCAM.*unexpected keyword argument 'level'"),
        ("RefineCAM", "missing 1 required"),
        ("GradCAM(**{'stage': 0})", r"write arguments by name, without \*\*"),
        ("LayerCAM(stage=1+x)", "neither a call nor a plain value"),
        ("LayerCAM(stage=layer3)", "layer3 is not known; text such as a layer's name is quoted: 'layer3'"),
        ("os.system('true')", "there is no 'os.system'"),
        ("RefineCAM(HalfCAM)", "RefineCAM works around a CAM"),
    ],
)
def test_bad_text(text, message):
    with pytest.raises(ValueError, match=message):
        parse_methods(text)


def test_options_of_any_kind_and_number_type():
    class Mine:
        def __init__(self, baseline=None, scale=1.0, layer=None):
            self.baseline, self.scale, self.layer = baseline, scale, layer

    assert options_of(Mine(scale=1)) == []
    assert options_of(Mine(np.zeros(2), layer=nn.ReLU())) == ["baseline=array([0., 0.])", "layer=ReLU"]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("ScoreCAM(stage=1, chunk=8)", "ScoreCAM"),
        ('GuidedGradCAM("layer2", layout="NHWC")', "GuidedGradCAM(layout='NHWC')"),
        ('RefineCAM(ShapleyCAM, "inverse_exp_mean", layers=["a", "b"])', "RefineCAM(ShapleyCAM, a, b)"),
        ("IntegratedGradients(steps=20)", "IntegratedGradients(steps=20)"),
        ("LIME(samples=300, alpha=0.1)", "LIME(samples=300, alpha=0.1)"),
        ('KernelSHAP(preset="paper", segments=50)', "KernelSHAP(samples=25, segments=50)"),
        ("DeepLift", "DeepLift"),
        ("InputXGradient()", "InputXGradient"),
        ("RandomCAM(seed=4)", "RandomCAM(seed=4)"),
    ],
)
def test_options_are_kept_and_named(text, name):
    (method,) = parse_methods(text)
    assert method.name == name
    (again,) = parse_methods(repr(method))
    assert (repr(again), again.title) == (repr(method), method.title)
