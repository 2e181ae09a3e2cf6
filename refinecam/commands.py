"""Commands that need no config: explain pictures, list a network's layers, make a report again."""

import argparse
import copy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import timm
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from torch import nn

from refinecam.attribution import CAM, AttributionMethod, RefineCAM, parse_methods, stages
from refinecam.core.errors import InputError, check_counts
from refinecam.core.files import write_file
from refinecam.data import CLASSES
from refinecam.data.pictures import EXTENSIONS, pictures_in
from refinecam.evaluation import report
from refinecam.evaluation.page import page
from refinecam.explanation import TOP, Explanation, explain, transform_of
from refinecam.models.choice import choose_network
from refinecam.models.foreign import IMAGENET
from refinecam.visualization import picture_grid

CELL = 1000
"""Longer side of a picture in a figure, in pixels."""
DEFAULT_METHODS = "GradCAM++(activations='rectified'), LayerCAM(activations='rectified')"
"""Those that refine best (docs/findings.md): after a ReLU the published ones."""


def explain_pictures(args: Sequence[str] | None = None) -> int:
    """Explain what a network sees in pictures: overlays, maps and scores."""
    parser = argparse.ArgumentParser(
        prog="refinecam explain",
        description="Explain what a network sees in pictures. For each it writes a figure with every method and its "
        "refined form, their overlays at the picture's resolution, the maps as .npy, and for all a table of scores.",
        epilog="example: refinecam explain cat.jpg photos/ --model resnet50 --methods 'GradCAM++, LayerCAM, "
        "IntegratedGradients' --target top3",
    )
    parser.add_argument("pictures", nargs="+", help="files, or folders of files")
    _add_network(parser)
    parser.add_argument(
        "--methods", default=DEFAULT_METHODS, help=f"attribution methods, as in Python (default: {DEFAULT_METHODS})"
    )
    parser.add_argument("--target", default="top1", help="class by number or name, or topK for the K most probable")
    parser.add_argument("--layers", metavar="NAME,NAME", help="layers as stages, shallow to deep, with commas between")
    parser.add_argument("--crop", action="store_true", help="explain the center that the network's evaluation sees")
    parser.add_argument("--no-scores", action="store_true", help="leave the scores out, which take most of the time")
    parser.add_argument("--output", default="runs/explain", help="folder for what is written (default: runs/explain)")
    options = parser.parse_args(args)
    model = _network_of(options, pretrained=True)
    layers = [name.strip() for name in (options.layers or "").split(",") if name.strip()]
    columns = _columns(parse_methods(options.methods), layers)
    for method in (m for column in columns for m in column if m is not None):
        method.layers(model)
    output = Path(options.output)
    output.mkdir(parents=True, exist_ok=True)
    tables, failed, used = [], 0, set[str]()
    for file in _files(options.pictures):
        try:
            stem = _unused(file.stem, used)
            for made in _explanations(model, file, columns, options):
                several = options.target.startswith("top") and options.target != "top1"
                name = f"{stem}.{made.target}-{made.name.replace('/', '-')}" if several else stem
                _write(made, columns, output / name)
                sure = {number: p for number, _, p in made.top}.get(made.target)
                shown = f"{made.name} ({sure:.1%})" if sure is not None else made.name
                print(f"{file}: {shown} -> {output / name}.png", flush=True)
                rows = made.scores.reset_index() if len(made.scores) else pd.DataFrame({"method": list(made.maps)})
                tables.append(rows.assign(picture=str(file), target=made.name))
        except InputError as error:
            failed += 1
            print(f"error: {error}", file=sys.stderr)
    if tables:
        _summarize(pd.concat(tables, ignore_index=True), output)
    return 1 if failed else 0


def list_layers(args: Sequence[str] | None = None) -> None:
    """List a network's stages: what stage=0 and so on mean for it."""
    parser = argparse.ArgumentParser(prog="refinecam layers", description=list_layers.__doc__)
    _add_network(parser, "model")
    parser.add_argument("--all", action="store_true", help="list every layer's name, too")
    options = parser.parse_args(args)
    model = _network_of(options, pretrained=False)
    size = transform_of(model).image_size
    rows = [
        {"stage": s.index, "layer": s.layer, "layout": s.layout, "channels": s.channels, "map": f"{s.rows}x{s.columns}"}
        for s in stages(model)
    ]
    print(f"{options.model or IMAGENET}, for images of {size} px\n\n{pd.DataFrame(rows).to_markdown(index=False)}")
    if options.all:
        print("\n" + "\n".join(name for name, _ in model.named_modules() if name))


def make_report(args: Sequence[str] | None = None) -> None:
    """Make summaries and figure of evaluations again from their tables, or one page of all of them."""
    parser = argparse.ArgumentParser(
        prog="refinecam report",
        description=make_report.__doc__,
        epilog="example: refinecam report runs/study/shapes-* --html report.html",
    )
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help="the --output of an evaluation")
    parser.add_argument("--html", metavar="FILE", help="write one page that opens from disk, and nothing else")
    parser.add_argument("--figures", nargs="+", default=[], metavar="PNG", help="further pictures for the page")
    options = parser.parse_args(args)
    if options.html:
        text = page(options.folders, [Path(figure) for figure in options.figures])
        write_file(Path(options.html), lambda beside: beside.write_text(text, encoding="utf-8"))
        print(f"Written: {options.html}")
        return
    for folder in options.folders:
        logger = TensorBoardLogger(folder, name="", default_hp_metric=False)
        show_results(Path(folder), report(folder, [logger]))
        logger.finalize("success")


def show_results(folder: Path, written: Sequence[Path]) -> None:
    """Print an evaluation's summary and the names of its files."""
    names = [path.name for path in written]
    print((folder / ("summary.md" if "summary.md" in names else "accuracy.md")).read_text(encoding="utf-8"))
    print(f"Written to {folder}: {', '.join(names)}, TensorBoard logs")


def _add_network(parser: argparse.ArgumentParser, name: str = "--model") -> None:
    options: dict[str, Any] = {"nargs": "?"} if name == "model" else {}
    parser.add_argument(
        name,
        help="timm name, name of the project's weights such as shapes-resnet18, or package.module.function that "
        f"returns a network, such as torchvision.models.resnet50 (default: {IMAGENET})",
        **options,
    )
    parser.add_argument("--checkpoint", help="weights: of train.py, or a state dict of this model")


def _network_of(options: argparse.Namespace, pretrained: bool) -> nn.Module:
    name, checkpoint = options.model, options.checkpoint
    if name is None:
        return choose_network(None, checkpoint or IMAGENET, None).network
    if timm.is_model(name):
        return choose_network(name, checkpoint, None, pretrained=pretrained).network
    if Path(name).exists() or "." not in name:
        weights = checkpoint is None and (Path(name).exists() or "-" in name)
        return choose_network(None if weights else name, name if weights else checkpoint, None).network
    return choose_network(None, checkpoint, name, pretrained=pretrained).network


def _columns(
    methods: Sequence[AttributionMethod], layers: Sequence[str] | None
) -> list[tuple[AttributionMethod, RefineCAM | None]]:
    """Each method and, of a CAM, its refined form."""
    columns: list[tuple[AttributionMethod, RefineCAM | None]] = []
    for method in methods:
        if not isinstance(method, CAM):
            columns.append((method, None))
            continue
        plain = copy.copy(method)
        plain.stage = -1
        if layers and method.stage == -1:
            method.stage = layers[-1]
        columns.append((method, RefineCAM(plain, layers=layers or None)))
    return columns


def _files(given: Sequence[str]) -> list[Path]:
    files: list[Path] = []
    for path in map(Path, given):
        files += pictures_in(path) if path.is_dir() else [path]
    if not files:
        raise InputError(f"pictures: there are none in {', '.join(given)} (looked for {', '.join(sorted(EXTENSIONS))})")
    return files


def _unused(stem: str, used: set[str]) -> str:
    """A name that no other picture of this run has."""
    number = next(n for n in range(len(used) + 1) if (f"{stem}-{n}" if n else stem) not in used)
    name = f"{stem}-{number}" if number else stem
    used.add(name)
    return name


def _explanations(
    model: nn.Module, file: Path, columns: Sequence[Sequence[AttributionMethod | None]], options: argparse.Namespace
) -> list[Explanation]:
    given = [method for column in columns for method in column if method is not None]
    methods = list({method.title: method for method in given}.values())  # two CAMs may have one refined form
    scores = None if options.no_scores else ""
    classes = CLASSES if str(options.model).startswith("shapes-") else ()
    target = options.target
    if not target.startswith("top") or not target[3:].isdecimal():
        return [explain(model, file, target, methods, scores, classes, crop=options.crop)]
    check_counts(target=int(target[3:]))
    count = int(target[3:])
    first = explain(model, file, None, methods, scores, classes, crop=options.crop, top=max(TOP, count))
    others = [number for number, _, _ in first.top[1:count]]
    return [first, *(explain(model, file, number, methods, scores, classes, crop=options.crop) for number in others)]


def _write(made: Explanation, columns: Sequence[Sequence[AttributionMethod | None]], path: Path) -> None:
    """The figure ``path.png``, and in the folder ``path`` each method's overlay and map."""
    path.mkdir(exist_ok=True)
    for earlier in (*path.glob("*.png"), *path.glob("*.npy")):  # of other methods, perhaps
        earlier.unlink()
    overlays = {title: made.overlay_of(title) for title in made.maps}
    for title, over in overlays.items():
        name = title.replace("/", "-").replace(" ", "_").replace(",", "")
        over.save(path / f"{name}.png", compress_level=1)
        np.save(path / f"{name}.npy", made.maps[title])
    cells: list[list[tuple[str, np.ndarray] | None]] = [[(made.name, _small(Image.fromarray(made.picture)))], [None]]
    for column in columns:
        for row, method in zip(cells, column, strict=True):
            row.append(None if method is None else (method.title, _small(overlays[method.title])))
    rows = cells if any(cell is not None for cell in cells[1]) else cells[:1]
    top = "\n".join(f"{probability:6.1%}  {name}" for _, name, probability in made.top)
    picture_grid(rows, top).savefig(f"{path}.png", dpi=150)


def _small(image: Image.Image) -> np.ndarray:
    """As large as a cell of the figure needs it."""
    image.thumbnail((CELL, CELL))
    return np.array(image)


def _summarize(table: pd.DataFrame, output: Path) -> None:
    columns = ["picture", "target", "method"]
    table = table[[*columns, *(name for name in table if name not in columns)]]
    table.to_csv(output / "summary.csv", index=False)
    scores = [name for name in table if name not in columns]
    if scores:
        groups = table.groupby("method", sort=False)[scores]
        scored = groups.count().min(axis=1)
        means = groups.mean().assign(scored=scored, undefined=groups.size() - scored)
        text = means.to_markdown(floatfmt=("", *[".3f"] * len(scores), ".0f", ".0f"))
        print(f"\nMeans over what was explained, each in {output / 'summary.csv'}:\n\n{text}")
