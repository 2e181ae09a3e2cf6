"""The command that runs a study: evaluate what is missing, then tables, figures and claims."""

import argparse
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from refinecam.attribution import METHODS
from refinecam.core.errors import InputError
from refinecam.core.files import write_file
from refinecam.core.running import fast_forward
from refinecam.core.signals import DEPENDENT
from refinecam.evaluation.identity import weights_digest
from refinecam.evaluation.store import read_manifest
from refinecam.models.choice import Chosen, choose_network
from refinecam.studies import STUDIES, Claim, Findings, Study
from refinecam.studies.plan import PRESETS, DataSet, Evaluation, evaluations, read_plan, united
from refinecam.studies.tables import stack
from refinecam.studies.writing import claims_page, write_findings

PLAN = "configs/studies.yaml"


def run_study(args: Sequence[str] | None = None) -> None:
    """Run a study of the paper: evaluate what is missing, then write tables, figures and which claims held."""
    listed = "\n".join(f"  {name:12} {study.title}" for name, study in STUDIES.items())
    parser = argparse.ArgumentParser(
        prog="refinecam study",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=f"{run_study.__doc__}\n\n{listed}\n  {'verdict':12} all of them, and one page of what held",
        epilog="Options that are not listed go to the evaluations: --trainer.devices 4 --trainer.strategy ddp\n"
        "example: refinecam study refine --data shapes --images 60 --dry-run",
    )
    parser.add_argument("name", choices=[*STUDIES, "verdict"], help="the study")
    parser.add_argument("--plan", default=PLAN, help="data sets and networks (default: %(default)s)")
    parser.add_argument("--data", nargs="+", help="data sets of the plan (default: all that the study asks)")
    parser.add_argument("--backbones", nargs="+", default=[], help="networks of the plan (default: all)")
    parser.add_argument(
        "--without", nargs="+", default=[], metavar="METHOD", help="methods to leave out, refined too: ScoreCAM, LIME"
    )
    parser.add_argument("--images", type=int, help="images of each data set (default: the plan's)")
    parser.add_argument(
        "--preset",
        choices=PRESETS,
        default="paper",
        help="samples of LIME and KernelSHAP: the 25 of the paper's code, or 1000 (default: %(default)s)",
    )
    parser.add_argument("--results", default="runs/study", help="folder of the evaluations (default: %(default)s)")
    parser.add_argument("--output", help="folder of tables and figures (default: RESULTS/NAME)")
    parser.add_argument("--no-evaluate", action="store_true", help="use what is there")
    parser.add_argument("--dry-run", action="store_true", help="print what would be evaluated, and how long it takes")
    options, more = parser.parse_known_args(args)
    sets = read_plan(options.plan, options.images)
    for name in options.data or ():
        if name not in sets:
            raise InputError(f"data: there is no {name} in {options.plan}; there are {', '.join(sets)}")
    sets = {name: data for name, data in sets.items() if not options.data or name in options.data}
    chosen = list(STUDIES.values()) if options.name == "verdict" else [STUDIES[options.name]]
    known = [name.replace("PlusPlus", "++") for name in METHODS]
    for name in options.without:
        if name not in known:
            raise InputError(f"without: there is no {name}; there are {', '.join(known)}")
    planned = {study.name: _planned(study, sets, options) for study in chosen}
    together = united(evaluation for of_study in planned.values() for evaluation in of_study)
    for evaluation in [] if options.no_evaluate else together:
        evaluation.check_options()
        _check_weights(evaluation)
    if not together:
        asked = {name for study in chosen for name in study.needs(PRESETS[options.preset])}
        raise InputError(
            f"plan: {options.name} asks for data named {' or '.join(sorted(asked))}, and {options.plan} has "
            f"{', '.join(sets) or 'none'}; name your data so"
        )
    if options.dry_run:
        _show_plan(together)
        return
    failed: list[InputError] = []
    for evaluation in [] if options.no_evaluate else together:
        lacking, added = evaluation.missing(), evaluation.added
        if lacking or added:
            also = f", and {added} images to add" if added else ""
            number = f"{len(lacking)} of {len(evaluation.methods)} methods to evaluate"
            print(f"{evaluation.folder}: {number}{also}", flush=True)
            try:
                _evaluate(evaluation, more)
            except InputError as error:  # it has said why; the others do not depend on it
                failed.append(error)
    _show_missing(together)
    output = Path(options.output or Path(options.results) / options.name)
    claims: dict[str, Sequence[Claim]] = {}
    for study in chosen:
        findings = _find(study, planned[study.name])
        if findings is not None:
            claims |= {study.title: findings.claims} if findings.claims else {}
            written = write_findings(findings, output if len(chosen) == 1 else output / study.name)
            if written:
                print(f"{study.title}\n  {len(written)} files in {written[0].parent}", flush=True)
    if claims:
        page = claims_page(claims)
        if len(chosen) > 1:
            write_file(output / "verdict.md", lambda path: path.write_text(page, encoding="utf-8"))
        print(f"\n{page}")
    if failed:
        raise failed[0]


def _planned(study: Study, sets: dict[str, DataSet], options: argparse.Namespace) -> list[Evaluation]:
    """A study's evaluations; one with scores of its own has folders of its own, as few need these."""
    needs = study.needs(PRESETS[options.preset])
    own = any(scores for _, scores in needs.values())
    folder = Path(options.results) / study.name / "evaluations" if own else Path(options.results)
    kept = {
        data: ([text for text in methods if not {*options.without} & {*re.findall(r"[\w+]+", text)}], scores)
        for data, (methods, scores) in needs.items()
    }
    return evaluations(kept, sets, folder, options.backbones, study.variants)


def evaluation_arguments(evaluation: Evaluation) -> list[str]:
    """Those of ``refinecam evaluate`` for all that is there and all that is missing."""
    scores = evaluation.all_scores()
    return [
        *("--config", evaluation.data.config),
        *(part for name, value in evaluation.arguments.items() for part in (f"--{name}", _written(value))),
        *("--model.methods", f"[{', '.join(evaluation.all_calls())}]"),
        *(("--model.scores", f"[{', '.join(scores)}]") if scores else ()),
        *("--output", str(evaluation.folder)),
    ]


def _written(value: Any) -> str:
    return "null" if value is None else str(value)


def _check_weights(evaluation: Evaluation) -> None:
    """Refuse a folder of other weights than those that the checkpoint has now, for example of an earlier training."""
    identity, checkpoint = evaluation.manifest.get("identity", {}), evaluation.arguments.get("model.checkpoint")
    if checkpoint is None or identity.get("precision") != "32-true":  # in which a network keeps its weights as they are
        return
    try:
        network = _network(evaluation).network
    except InputError:  # a checkpoint that is not there changes nothing
        return
    if weights_digest(network) != identity["weights"]:
        raise InputError(f"networks: {evaluation.folder} is of other weights than {checkpoint}; name other results")


def _evaluate(evaluation: Evaluation, more: Sequence[str]) -> None:
    """In a process of its own, which may start others."""
    command = [sys.executable, "-m", "refinecam", "evaluate", *evaluation_arguments(evaluation), *more]
    if subprocess.run(command, env={**os.environ, DEPENDENT: "1"}, check=False).returncode:
        raise InputError(f"study: the evaluation into {evaluation.folder} failed; what it has written stays")


def _find(study: Study, planned: Sequence[Evaluation]) -> Findings | None:
    there = [e for e in planned if read_manifest(e.folder) is not None]
    if not there:
        return None
    return study.find(stack(there))


def _show_missing(planned: Sequence[Evaluation]) -> None:
    """Say what is not there, once for each folder."""
    absent = [str(e.folder) for e in planned if read_manifest(e.folder) is None]
    for evaluation in planned:
        if str(evaluation.folder) not in absent and (left := evaluation.missing()):
            print(f"left out of {evaluation.folder}, as not evaluated: {', '.join(left)}")
    if absent:
        print(f"not evaluated, so left out: {', '.join(absent)}")


def _show_plan(planned: Sequence[Evaluation]) -> None:
    """What is missing, and how long it takes on one process of this machine."""
    total = 0.0
    for evaluation in planned:
        missing = [*([f"{evaluation.added} more images"] if evaluation.added else []), *evaluation.missing()]
        hours = evaluation.passes() * _seconds(evaluation) / 3600 if missing else 0
        known = math.isfinite(hours)
        total += hours if known else 0
        takes = f"about {hours:.1f} h" if known else "an unknown time"
        text = f"{takes} for {', '.join(missing)}" if missing else "all there"
        print(f"{evaluation.folder}: {evaluation.data.images} images, {text}")
    print(f"\nabout {total:.1f} h on one process here; N processes, with a device each, take an Nth")


def _network(evaluation: Evaluation) -> Chosen:
    given = evaluation.arguments
    backbone, checkpoint, network = (given.get(f"model.{name}") for name in ("backbone", "checkpoint", "network"))
    return choose_network(backbone, checkpoint, network, given.get("model.image_size"), pretrained=False)


def _seconds(evaluation: Evaluation) -> float:
    """Of one forward pass of one image, here."""
    try:
        chosen = _network(evaluation)
    except InputError as error:
        print(f"{evaluation.network}: {error}")
        return float("nan")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    images = torch.zeros(16, 3, *(2 * [chosen.image_size or 224]), device=device)
    model = chosen.network.to(device)
    fast_forward(model, images)
    start = time.perf_counter()
    fast_forward(model, images).cpu()
    return (time.perf_counter() - start) / len(images)
