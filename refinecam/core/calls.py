"""Objects written as one would make them in Python, for configs and command lines."""

import ast
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from torch import nn

from refinecam.core.errors import InputError

CLOSE = 0.72
"""Similarity from which an unknown name is taken for a typo; another library's method is less similar."""


def parse_calls(text: str | Sequence[str], known: Mapping[str, Callable[..., Any]], argument: str) -> list[Any]:
    """Read calls such as ``RefineCAM(LayerCAM, stage=1)``; parentheses without arguments may be left out.

    Nothing is executed but the known names, with plain values or other such calls as arguments.

    Args:
        text: calls separated by commas, or a sequence of such texts; none is allowed.
        known: what may be called, by name.
        argument: what the text is of, for messages: ``"methods"``.

    Raises:
        InputError: naming what cannot be read, and what exists, or what is there twice, by its ``title``.

    >>> parse_calls("complex(1), complex(real=2, imag=complex(3))", {"complex": complex}, "numbers")
    [(1+0j), (2+3j)]
    """
    # A YAML list falls apart at every comma, those inside of parentheses too: together the parts are whole again.
    whole = text if isinstance(text, str) else ", ".join(text)
    try:
        tree = ast.parse(f"[{whole.strip()}]", mode="eval").body
        if not isinstance(tree, ast.List):
            raise SyntaxError("brackets that close the list")
    except SyntaxError as error:
        raise InputError(
            f"{argument}: cannot read {whole!r}; write names and calls, such as {next(iter(known))}"
        ) from error
    nodes = tree.elts
    if len(nodes) == 1 and isinstance(nodes[0], ast.List):  # already bracketed
        nodes = nodes[0].elts
    made = [_call(node, known, argument) for node in nodes]
    check_titles(made, argument)
    return made


def check_titles(made: Sequence[Any], argument: str) -> None:
    """Refuse objects that tables and figures would not distinguish.

    Raises:
        InputError: naming the first.
    """
    titles = [getattr(value, "title", None) for value in made]
    twice = [title for title in titles if title is not None and titles.count(title) > 1]
    if twice:
        raise InputError(f"{argument}: {twice[0]!r} is there twice; leave one out, or give its layer by name")


def options_of(made: object, leave_out: Collection[str] = ()) -> list[str]:
    """Options of an object that are not its constructor's defaults, as one writes them; modules by their type.

    >>> class Blur:
    ...     def __init__(self, sigma=1.0, mode="same"):
    ...         self.sigma, self.mode = sigma, mode
    >>> options_of(Blur(mode="full"))
    ["mode='full'"]
    """
    found = []
    for name, parameter in inspect.signature(type(made)).parameters.items():
        value, usual = getattr(made, name, parameter.default), parameter.default
        same = repr(value) == repr(usual) or (isinstance(value, int | float) and value == usual)
        if name not in leave_out and not same:
            found.append(f"{name}={written(value)}")
    return found


def written(value: Any) -> str:
    """A value as one writes it; a module by its type."""
    return type(value).__name__ if isinstance(value, nn.Module) else repr(value)


def _call(node: ast.expr, known: Mapping[str, Callable[..., Any]], argument: str) -> Any:
    call = node if isinstance(node, ast.Call) else ast.Call(func=node, args=[], keywords=[])
    name = call.func.id if isinstance(call.func, ast.Name) else ast.unparse(call.func)
    if name not in known:
        plain = {other.lower(): other for other in known}
        meant = get_close_matches(name.lower().replace("_", ""), plain, n=1, cutoff=CLOSE)
        hint = f"did you mean {plain[meant[0]]}? There" if meant else "there"
        raise InputError(f"{argument}: there is no {name!r}; {hint} are {', '.join(known)}")
    if not all(keyword.arg for keyword in call.keywords):
        raise InputError(f"{argument}: {ast.unparse(call)}: write arguments by name, without **")
    args = [_value(arg, known, argument) for arg in call.args]
    options = {str(keyword.arg): _value(keyword.value, known, argument) for keyword in call.keywords}
    try:
        return known[name](*args, **options)
    except TypeError as error:
        accepted = ", ".join(inspect.signature(known[name]).parameters) or "none"
        raise InputError(f"{argument}: {ast.unparse(call)}: {error}; its options are: {accepted}") from error


def _value(node: ast.expr, known: Mapping[str, Callable[..., Any]], argument: str) -> object:
    if isinstance(node, ast.Name) and node.id not in known:
        raise InputError(f"{argument}: {node.id} is not known; text such as a layer's name is quoted: '{node.id}'")
    if isinstance(node, ast.Name | ast.Call):
        return _call(node, known, argument)
    try:
        return ast.literal_eval(node)
    except ValueError as error:
        raise InputError(f"{argument}: {ast.unparse(node)!r} is neither a call nor a plain value") from error
