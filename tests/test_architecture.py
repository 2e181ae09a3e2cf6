"""The arrows of the code point one way."""

import ast
import configparser
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "refinecam"
FLOORS = (
    {"core"},
    {"imputation"},
    {"data", "models", "attribution", "metrics"},
    {"visualization"},
    {"evaluation", "explanation"},
    {"studies", "callbacks"},
    {"usage", "commands", "study"},
    {"configuration"},
    {"cli"},
)
"""From the ground up; rooms of one floor know nothing of each other."""
COMMAND_LINES = {"cli.py", "commands.py", "configuration.py", "usage.py", "__main__.py", "export.py", "study.py"}


def room_of(module: str) -> str:
    return module.split(".")[1]


def imports(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    found = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    found |= {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    found |= {
        f"refinecam.{a.name}"
        for n in nodes
        if isinstance(n, ast.ImportFrom) and n.module == "refinecam"
        for a in n.names
    }
    return {room_of(name) for name in found if name.startswith("refinecam.")}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path):
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if room in ("__init__", "__main__"):
        return
    floor = next(level for level, rooms in enumerate(FLOORS) if room in rooms)
    below = set().union(*FLOORS[:floor], {room})
    assert imports(path) <= below


def test_library_names_no_flag():
    for path in PACKAGE.rglob("*.py"):
        if path.name not in (
            "cli.py",
            "commands.py",
            "configuration.py",
            "usage.py",
            "__main__.py",
            "export.py",
            "study.py",
        ):
            assert not re.search(r"--(data|model|trainer|config|output)\b|\.py --", path.read_text()), path


def test_every_package_is_installed():
    config = configparser.ConfigParser()
    config.read(PACKAGE.parent / "setup.cfg")
    packages = {".".join(path.parent.relative_to(PACKAGE.parent).parts) for path in PACKAGE.rglob("__init__.py")}
    assert set(config["options"]["packages"].split()) == packages | {"refinecam.checkpoints"}
