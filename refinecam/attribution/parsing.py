"""Attribution methods written as text, for configs and command lines."""

import ast
from collections.abc import Mapping, Sequence
from difflib import get_close_matches

from refinecam.attribution.cams import GradCAM, GradCAMPlusPlus, LayerCAM
from refinecam.attribution.guided import GuidedGradCAM
from refinecam.attribution.method import AttributionMethod
from refinecam.attribution.pixel import DeepLift, InputXGradient, IntegratedGradients
from refinecam.attribution.refine import RefineCAM
from refinecam.attribution.score_cam import ScoreCAM
from refinecam.attribution.shapley_cam import ShapleyCAM
from refinecam.attribution.superpixel import LIME, KernelSHAP
from refinecam.attribution.trivial import All1sCAM, HalfCAM, RandomCAM
from refinecam.core.errors import InputError

METHODS: Mapping[str, type[AttributionMethod]] = {
    method.__name__: method
    for method in (
        *(GradCAM, GradCAMPlusPlus, LayerCAM, ScoreCAM, ShapleyCAM, GuidedGradCAM, RefineCAM),
        *(IntegratedGradients, InputXGradient, DeepLift, LIME, KernelSHAP),
        *(RandomCAM, HalfCAM, All1sCAM),
    )
}


def parse_methods(text: str | Sequence[str]) -> list[AttributionMethod]:
    """Read methods as one would write them in Python; parentheses without arguments may be left out.

    Args:
        text: methods separated by commas, or a sequence of such texts; none is allowed.

    Raises:
        InputError: naming what cannot be read, and what exists.

    >>> [method.name for method in parse_methods("GradCAM++, LayerCAM(stage=0), RefineCAM(LayerCAM, stage=1)")]
    ['GradCAM++', 'LayerCAM', 'RefineCAM(LayerCAM)']
    """
    # A YAML list falls apart at every comma, those inside of parentheses too: together the parts are whole again.
    whole = text if isinstance(text, str) else ", ".join(text)
    try:
        tree = ast.parse(f"[{whole.strip().replace('GradCAM++', 'GradCAMPlusPlus')}]", mode="eval").body
        if not isinstance(tree, ast.List):
            raise SyntaxError("brackets that close the list")
    except SyntaxError as error:
        raise InputError(f"methods: cannot read {whole!r}; write for example RefineCAM(LayerCAM)") from error
    nodes = tree.elts
    if len(nodes) == 1 and isinstance(nodes[0], ast.List):  # already bracketed
        nodes = nodes[0].elts
    methods = [_method(node) for node in nodes]
    titles = [method.title for method in methods]
    twice = [title for title in titles if titles.count(title) > 1]
    if twice:
        raise InputError(f"methods: {twice[0]!r} is there twice")
    return methods


def _method(node: ast.expr) -> AttributionMethod:
    call = node if isinstance(node, ast.Call) else ast.Call(func=node, args=[], keywords=[])
    name = call.func.id if isinstance(call.func, ast.Name) else ast.unparse(call.func)
    if name not in METHODS:
        plain = {known.lower(): known for known in METHODS}
        meant = get_close_matches(name.lower().replace("_", ""), plain, n=1, cutoff=0.7)
        hint = f"did you mean {plain[meant[0]]}? There" if meant else "there"
        raise InputError(f"methods: there is no {name!r}; {hint} are {', '.join(METHODS)}")
    args = [_value(arg) for arg in call.args]
    if not all(keyword.arg for keyword in call.keywords):
        raise InputError(f"methods: {ast.unparse(call)}: write arguments by name, without **")
    options = {str(keyword.arg): _value(keyword.value) for keyword in call.keywords}
    try:
        return METHODS[name](*args, **options)
    except TypeError as error:
        raise InputError(f"methods: {ast.unparse(call)}: {error}") from error


def _value(node: ast.expr) -> object:
    if isinstance(node, ast.Name) and node.id not in METHODS:
        raise InputError(f"methods: {node.id} is not a method; text such as a layer's name is quoted: '{node.id}'")
    if isinstance(node, ast.Name | ast.Call):
        return _method(node)
    try:
        return ast.literal_eval(node)
    except ValueError as error:
        raise InputError(f"methods: {ast.unparse(node)!r} is neither a method nor a plain value") from error
