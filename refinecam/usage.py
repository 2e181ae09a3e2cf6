"""What the command lines say: help, and errors in one line."""

import difflib
import inspect
import re
import sys
from collections.abc import Sequence
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import jsonargparse
import yaml

from refinecam import data as datasets
from refinecam.core.errors import InputError
from refinecam.data import CropStage, ShapesDataModule

OF_THE_MODEL = ("backbone", "image_size")
"""Arguments of the data modules that the model decides."""
EXAMPLE = "refinecam.data.ShapesDataModule"
"""The data where none are named."""
NOISE = (
    *("Parser key", "Expected a path", "Does not validate", "Subtypes:", "Errors:", "Given value"),
    *("Expected a <class 'None", "Problem with given class_path"),
)
"""Beginnings of lines in jsonargparse's messages that help nobody."""


def class_of(path: str) -> type:
    """The class of this dotted name, or of a name in refinecam.data."""
    module, _, name = path.rpartition(".")
    try:
        return getattr(import_module(module), name) if module else getattr(datasets, name)
    except (ImportError, AttributeError) as error:
        raise InputError(f"data: there is no class {path}; name one with its module, such as {EXAMPLE}") from error


def show_help(description: str, model: type, args: Sequence[str]) -> None:
    """Print the own options of model and data; those of Lightning's Trainer and loggers are many."""
    program = Path(sys.argv[0]).name
    named = _named_data(args)
    parser = jsonargparse.ArgumentParser(
        prog=program,
        usage=f"{program} [--config FILE] [--model.NAME VALUE] [--data CLASS] [--data.NAME VALUE] "
        "[--trainer.NAME VALUE]",
        description=f"{description} configs/ has a file for each experiment, and docs/guide.md says what they are.",
        epilog="--help-all also lists the options of Lightning's Trainer, --print_config prints every value, "
        "--data FunnyBirdsDataModule --help has the options of other data.",
        add_help=False,
    )
    parser.add_argument("--config", help="YAML file with any of these options; values on the command line override it")
    if "output" in inspect.signature(model).parameters:
        parser.add_argument("--output", default="runs/evaluation", help="folder for tables, figure and logs")
        parser.add_argument("--overwrite", default=False, help="true replaces another evaluation in this folder")
    else:
        parser.add_argument("--ckpt_path", help="checkpoint of a training to go on with")
    hidden = {"output", "overwrite", "num_classes"}
    parser.add_class_arguments(model, "model", skip=hidden & set(inspect.signature(model).parameters))
    kind = class_of(named)
    parser.add_class_arguments(kind, "data", skip=set(OF_THE_MODEL) & set(inspect.signature(kind).parameters))
    parser.print_help()


def _named_data(args: Sequence[str]) -> str:
    """The data class that a command line names, or its config; the shapes otherwise."""
    words = [word for arg in args for word in arg.split("=", 1)]
    for option, value in reversed(list(pairwise(words))):
        if option == "--data":
            return value
        if option == "--config" and Path(value).is_file():
            config = yaml.safe_load(Path(value).read_text(encoding="utf-8"))
            data = config.get("data") if isinstance(config, dict) else None
            if isinstance(data, dict) and "class_path" in data:
                return str(data["class_path"])
    return EXAMPLE


def one_line(message: str, options: Sequence[str], other: tuple[type, str]) -> str:
    """What jsonargparse says of a wrong argument, in one line, with the names that are close to an unknown one.

    Args:
        message: jsonargparse's.
        options: that there are.
        other: model of the other command line, and its name.
    """
    key, parameter = (re.search(p, message) for p in (r'Parser key "([^"]+)"', r"NestedArg\(key='([^']+)'"))
    name = ".".join(match[1] for match in (key, parameter) if match)
    lines = [line.strip(" -") for line in message.splitlines()]
    kept = [line for line in dict.fromkeys(lines) if line and not line.startswith(NOISE) and "Namespace(" not in line]
    text = f"{name}: {'; '.join(kept)}" if name and kept else "; ".join(kept) or lines[0]
    unknown = re.search(r"unrecognized arguments: --([^ =]+)|[Oo]ption '([^']+)'|import path string: (\w+)", message)
    if not unknown:
        return f"{text}; --help lists what there is"
    chosen = re.search(r"given class_path '([^']+)'", message)
    known = [option.removeprefix("--") for option in options]
    known += [*inspect.signature(class_of(chosen[1]) if chosen else ShapesDataModule).parameters]
    known += [*inspect.signature(CropStage).parameters, *(n for n in datasets.__all__ if n.endswith("DataModule"))]
    word = next(word for word in unknown.groups() if word)
    if f"model.{word}" not in known and word in inspect.signature(other[0]).parameters:
        return f"{text}; it is an option of {other[1]}"
    group = re.search(r"Group '(\w+)'", message)
    close = difflib.get_close_matches(f"{group[1]}.{word}" if group else word, dict.fromkeys(known), n=3)
    close = close or [name for name in dict.fromkeys(known) if word in re.split(r"[._]", name)][:3]  # --epochs
    names = [f"--{name}" if "." in name else name for name in close]
    return f"{text}; " + (f"close to it: {', '.join(names)}" if names else "--help lists what there is")
