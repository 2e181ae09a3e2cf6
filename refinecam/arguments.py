"""What the arguments of a command line say before they are parsed, and what is wrong with them, in one line."""

import argparse
import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from refinecam.core.errors import InputError

OF_THE_MODEL = ("backbone", "image_size")
"""Arguments of the data modules that the model decides."""
REPETITIONS = (
    "Expected a path",
    "Does not validate",
    "Subtypes:",
    "Errors:",
    "Problem with given",
    "Given value type:",
    "Expected a NoneType",
)
"""Beginnings of lines in jsonargparse's messages that tell a user nothing."""


def read_ahead(args: Sequence[str]) -> dict[str, list[Any]]:
    """Values that the real parser's shape depends on, or that it would drop: of the command line, then of its configs.

    Where a config is given several times, the last one comes first, as it has the last word.
    """
    names = ("dataset", *(f"data.{name}" for name in OF_THE_MODEL))
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config", action="append", default=[])
    for name in names:
        parser.add_argument(f"--{name}", nargs="?", action="append", default=[])
    known, _ = parser.parse_known_args(list(args))
    found = {name: getattr(known, name)[::-1] for name in names}
    for path in reversed(known.config):
        try:
            config = yaml.safe_load(Path(path).read_text())
        except (OSError, ValueError, yaml.YAMLError):
            continue  # the real parser reads it again and says what is wrong with it
        for name in names:
            section, _, key = name.rpartition(".")
            values = config.get(section) if section and isinstance(config, dict) else config
            if isinstance(values, dict) and key in values:
                found[name].append(values[key])
    return found


def check_data_follow_the_model(found: dict[str, list[Any]]) -> None:
    """Refuse values for what the model decides, which the real parser would drop without a word.

    Raises:
        InputError: naming the model's argument.
    """
    for name in OF_THE_MODEL:
        for value in found[f"data.{name}"]:
            raise InputError(f"data.{name}: the data follow the model; instead of {value} here give --model.{name}")


def one_line(message: str, options: Sequence[str]) -> str:
    """What jsonargparse says of a wrong argument, with the options whose names are close to one that is not there."""
    lines = [re.sub(r"<class '(\w+)'>", r"\1", line.strip(" -")) for line in message.splitlines()]
    line = "; ".join(line for line in lines if line and "Namespace(" not in line and not line.startswith(REPETITIONS))
    line = re.sub(r'^Parser key "([^"]+)":[; ]*', r"\1: ", line)
    if linked := re.match(r'Linked "([^"]+)" must be given via "([\w.]+)"', line):
        return f"{linked[1]}: it is not for you to give, it follows from --{linked[2]}"
    unknown = re.search(r"unrecognized arguments: (--[^ =]+)", line)
    close = difflib.get_close_matches(unknown[1], options, n=3) if unknown else []
    if in_config := re.search(r"Group '(\w+)' does not accept option '(\w+)'", line):
        prefix = f"--{in_config[1]}."
        names = [option.removeprefix(prefix) for option in options if option.startswith(prefix)]
        close = [prefix + name for name in difflib.get_close_matches(in_config[2], names, n=3, cutoff=0.7)]
    help = "--data.curriculum.help" if line.startswith("data.curriculum: ") else "--help"
    return f"{line}; close to it: {', '.join(close)}" if close else f"{line}; {help} lists what there is"
