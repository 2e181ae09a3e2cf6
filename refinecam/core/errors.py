"""The error for input that cannot be used."""

import re
from collections.abc import Hashable, Iterable, Mapping
from math import inf
from numbers import Integral, Real

LINE_BREAKS = re.compile(r"\s*\n\s*")
LONGEST = 1000
"""Characters of a message."""


class InputError(ValueError):
    """Input that cannot be used; the message names the argument, its value and the remedy, in one line.

    The command lines print it without a traceback. Of a long value, such as a tensor, the middle is left out.
    """

    def __init__(self, message: str) -> None:
        *_, own = message.rpartition("InputError: ")  # behind the traceback of a worker that read the data
        line = LINE_BREAKS.sub(" ", own.strip())
        super().__init__(line if len(line) <= LONGEST else f"{line[: LONGEST // 2]} … {line[-LONGEST // 2 :]}")


def check_counts(optional: Mapping[str, int | None] | None = None, /, **values: int) -> None:
    """Refuse what is no whole number of at least 1; of the optional ones, None passes.

    Raises:
        InputError: naming the argument.
    """
    given = {name: value for name, value in (optional or {}).items() if value is not None}
    for name, value in {**given, **values}.items():
        if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
            raise InputError(f"{name}: expected a whole number, at least 1, got {value!r}")


def check_range(low: float, high: float = inf, /, **values: float) -> None:
    """Refuse what is not a finite number from ``low`` to ``high``.

    Raises:
        InputError: naming the argument.
    """
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, Real) or not low <= value <= high or value == inf:
            end = "" if high == inf else f" to {high:g}"
            raise InputError(f"{name}: expected a number from {low:g}{end or ' on'}, got {value!r}")


def check_not_negative(**values: int) -> None:
    """Refuse what is no whole number of at least 0.

    Raises:
        InputError: naming the argument.
    """
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, Integral) or value < 0:
            raise InputError(f"{name}: expected a whole number, at least 0, got {value!r}")


def check_choice(choices: Iterable[object], /, **values: object) -> None:
    """Refuse what is none of the choices.

    Raises:
        InputError: naming the argument.
    """
    for name, value in values.items():
        if not isinstance(value, Hashable) or value not in choices:
            raise InputError(f"{name}: expected one of {', '.join(map(str, choices))}, got {value!r}")
