"""The error for input that cannot be used."""


class InputError(ValueError):
    """Input that cannot be used; the message names the argument, its value and the remedy, in one line.

    The command lines print it without a traceback.
    """
