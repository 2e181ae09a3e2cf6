"""The error for input that cannot be used."""


class InputError(ValueError):
    """Input that cannot be used; the message names the argument, its value and the remedy, in one line.

    The command lines print it without a traceback.
    """


def check_counts(**values: int | None) -> None:
    """Refuse what is neither None nor a whole number of at least 1.

    Raises:
        InputError: naming the argument.
    """
    for name, value in values.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise InputError(f"{name}: expected a whole number, at least 1, got {value!r}")
