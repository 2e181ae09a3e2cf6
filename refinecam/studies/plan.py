"""What a study needs evaluated, what of it is there, and the evaluations of the rest."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from refinecam.attribution import parse_methods
from refinecam.core.errors import InputError, check_counts
from refinecam.evaluation.rows import key_of
from refinecam.evaluation.store import read_manifest
from refinecam.metrics import SCORES, parse_scores, usual_scores

PAPER = "LIME(preset='paper')", "KernelSHAP(preset='paper')"
PRESETS = {"paper": PAPER, "full": ("LIME", "KernelSHAP")}
"""LIME and KernelSHAP with the 25 samples of the paper's code, or with the ten times as many as superpixels."""
OVERHEAD = 20
"""Forward passes' worth of all scores of a map, but for the map that Coherency asks for (tests/benchmarks)."""


class DataSet(NamedTuple):
    """A data set of the plan.

    Attributes:
        name: in the plan.
        config: of the evaluation.
        truth: the score that knows the right answer; None where there is none.
        size: option of the number of images.
        images: that number.
        options: further options of the evaluation.
        networks: for each name, its options.
    """

    name: str
    config: str
    truth: str | None
    size: str
    images: int
    options: Mapping[str, Any]
    networks: Mapping[str, Mapping[str, Any]]


class Evaluation(NamedTuple):
    """One network on one data set: a folder of results.

    Attributes:
        data: the data set.
        network: name of the network.
        folder: of the results.
        methods: that are needed, as one writes them.
        scores: that are needed beside the usual ones.
        variant: of the study; empty for the plan's own options.
        options: of the variant.
    """

    data: DataSet
    network: str
    folder: Path
    methods: tuple[str, ...]
    scores: tuple[str, ...]
    variant: str = ""
    options: Mapping[str, Any] = {}

    @property
    def manifest(self) -> Mapping[str, Any]:
        """What is there, finished or not; empty if nothing is."""
        return read_manifest(self.folder / "parts") or read_manifest(self.folder) or {}

    @property
    def arguments(self) -> dict[str, Any]:
        """Options of the evaluation that the plan names."""
        own = self.data.networks[self.network]
        return {**self.data.options, self.data.size: self.data.images, **own, **self.options}

    def check_options(self) -> None:
        """Refuse a folder whose evaluation had other options.

        Raises:
            InputError: with the remedy.
        """
        identity = self.manifest.get("identity", {})
        there = {f"data.{name}": value for name, value in identity.get("data", {}).items()}
        there |= {f"model.{name}": identity.get(name) for name in ("target", "only_correct", "network")}
        if number := there.get("data.images"):
            there[self.data.size] = max(number, self.data.images)  # fewer are added to
        for name, asked in self.arguments.items():
            if there.get(name) is not None and not _same(there[name], asked):
                what = "images" if name == self.data.size else name
                raise InputError(f"{what}: {self.folder} has {there[name]}, not {asked}; name that, or other results")

    def missing(self) -> list[str]:
        """Methods that are not there, or not with all scores."""
        about = read_manifest(self.folder) or {}
        there = {tuple(key) for key in about.get("methods", [])}
        scored = {score["name"] for score in about.get("scores", [])}
        if not {score.title for score in parse_scores(list(self.scores))} <= scored:
            there = set()
        return [text for text in self.methods if key_of(parse_methods(text)[0]) not in there]

    @property
    def added(self) -> int:
        """Images that are asked for beyond those that are there and stay."""
        there = (read_manifest(self.folder) or {}).get("identity", {}).get("data", {}).get("images")
        return max(0, self.data.images - there) if there else 0

    def all_calls(self) -> list[str]:
        """The methods to ask for: what is there already stays."""
        return _united(self.manifest.get("calls", []), self.methods, parse_methods)

    def all_scores(self) -> list[str]:
        """The scores to ask for, likewise; empty for the usual ones."""
        there = [score["name"] for score in self.manifest.get("scores", [])]
        if not self.scores and not there:
            return []
        return _united(there or usual_scores(self.data.truth in SCORES), self.scores, parse_scores)

    def passes(self) -> int:
        """Forward passes' worth of what is missing, roughly."""
        images = dict.fromkeys(self.all_calls(), self.added) | dict.fromkeys(self.missing(), self.data.images)
        each = {text: sum(OVERHEAD + 2 * method.passes for method in parse_methods(text)) for text in images}
        return sum(images[text] * each[text] for text in images)


def _same(there: Any, asked: Any) -> bool:
    """Whether a manifest's value, a text, is that of a plan; files may have been moved."""
    if Path(str(asked)).exists():
        return Path(str(asked)).resolve().name in Path(str(there)).parts
    return _value(there) == _value(asked)


def _value(text: Any) -> Any:
    try:
        return yaml.safe_load(str(text).replace("(", "[").replace(")", "]"))
    except yaml.YAMLError:
        return str(text)


def read_plan(file: str | Path, images: int | None = None) -> dict[str, DataSet]:
    """The data sets of a plan.

    Args:
        file: YAML, as configs/studies.yaml.
        images: of each data set, instead of the plan's.

    Raises:
        InputError: naming what is wrong.
    """
    check_counts({"images": images})
    try:
        content = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
        sets = {
            name: DataSet(
                name,
                entry["config"],
                entry["truth"],
                entry["size"],
                images or entry["images"],
                entry.get("options") or {},
                entry["networks"],
            )
            for name, entry in content.items()
        }
    except OSError as error:
        raise InputError(
            f"plan: {file} cannot be read ({error.strerror}); name a file as configs/studies.yaml"
        ) from error
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"plan: {file} is not as configs/studies.yaml: {type(error).__name__} {error}") from error
    return sets


def evaluations(
    needs: Mapping[str, tuple[Sequence[str], Sequence[str]]],
    sets: Mapping[str, DataSet],
    folder: Path,
    networks: Iterable[str] = (),
    variants: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Evaluation]:
    """The evaluations that a study needs.

    Args:
        needs: for each data set methods, and scores beside the usual ones.
        sets: the plan.
        folder: of all results; each evaluation has one of its own in it.
        networks: names of those that are wanted; empty for all.
        variants: of the study; they have the usual scores.

    Raises:
        InputError: if a network is not in the plan.
    """
    wanted, known = list(networks), [name for data in sets.values() for name in data.networks]
    for name in wanted:
        if name not in known:
            raise InputError(f"networks: there is no {name} in the plan; there are {', '.join(known)}")
    plain = [
        Evaluation(sets[name], network, folder / f"{name}-{network}", tuple(methods), tuple(scores))
        for name, (methods, scores) in needs.items()
        if name in sets
        for network in sets[name].networks
        if not wanted or network in wanted
    ]
    varied = [
        own._replace(folder=folder / f"{own.folder.name}-{variant}", scores=(), variant=variant, options=options)
        for own in plain
        for variant, options in (variants or {}).items()
    ]
    return plain + varied


def united(planned: Iterable[Evaluation]) -> list[Evaluation]:
    """One evaluation for each folder, with the methods of all."""
    result: dict[Path, Evaluation] = {}
    for evaluation in planned:
        earlier = result.get(evaluation.folder)
        methods = _united(earlier.methods if earlier else (), evaluation.methods, parse_methods)
        result[evaluation.folder] = evaluation._replace(methods=tuple(methods))
    return list(result.values())


def _united(there: Sequence[str], needed: Sequence[str], parse: Any) -> list[str]:
    """Both, each once, by what they are."""
    result: dict[str, str] = {}
    for text in (*there, *needed):
        result.setdefault(parse(text)[0].title, text)
    return list(result.values())
