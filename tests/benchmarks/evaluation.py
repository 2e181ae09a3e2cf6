"""What an evaluation costs: ``python -m tests.benchmarks.evaluation``.

Two processes beside one, the memory over many batches, and each method by itself, with the shipped ResNet18 on
procedural shapes, one thread a process. The time of the loop is the difference between two runs that differ in their
number of images alone. The costs of the methods, maps and all scores, are worth so many forward passes of one image,
from which the time of an evaluation can be estimated.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import lightning as L
import torch

from refinecam.attribution import parse_methods
from refinecam.metrics import SCORES, MapEvaluation
from refinecam.models import create_backbone, load_network
from tests.benchmarks.scores import forwards, shapes
from tests.benchmarks.timing import take_turns

ROOT = Path(__file__).parents[2]
METHODS = "GradCAM++, RefineCAM(LayerCAM), RandomCAM"
CAMS = ("GradCAM", "GradCAM++", "LayerCAM", "ShapleyCAM", "GuidedGradCAM", "ScoreCAM")
PIXEL = (
    "InputXGradient, IntegratedGradients, DeepLift, LIME(preset='paper'), KernelSHAP(preset='paper'), LIME, KernelSHAP"
)


class Memory(L.Callback):
    """Prints the memory of the process ten times."""

    def on_test_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
        every = max(1, trainer.num_test_batches[0] // 10)
        if batch_idx % every == every - 1:
            (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS")]
            print(f"{batch_idx + 1} batches: {int(line.split()[1]) / 1024:.0f} MB", flush=True)


def small() -> torch.nn.Module:
    """A ResNet18 that takes images of any size."""
    return create_backbone("resnet18", False, 6)


def seconds(images: int, processes: int) -> float:
    """Time of one command, to its end."""
    network = ["--model.checkpoint", "shapes-resnet18", "--trainer.strategy", "ddp"]
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        evaluate(folder, images, METHODS, 4, *network, "--trainer.devices", str(processes))
        return time.perf_counter() - start


def evaluate(folder: str, images: int, methods: str, batch: int, *more: str) -> str:
    """Run the command line and return what it printed."""
    command = [sys.executable, "evaluate.py", "--config", "configs/evaluate/shapes.yaml", "--output", folder]
    command += ["--model.methods", f"[{methods}]", "--model.only_correct", "false"]
    command += ["--data.test_size", str(images), "--data.batch_size", str(batch), "--data.num_workers", "0"]
    command += ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false", *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True).stdout


def costs(images: int, chosen: str) -> None:
    """Print what maps and scores of each method cost, in forward passes and in seconds."""
    torch.set_num_threads(1)
    network = load_network("shapes-resnet18")
    batch, targets, masks = shapes(images, 224)
    print("| method | ms an image, one thread | forward passes' worth | 50,000 images, 8 such threads |")
    print("|---|---|---|---|")
    total = 0.0
    for method in parse_methods(chosen):

        def work(method=method) -> None:
            maps = method(network, batch, targets)
            evaluation = MapEvaluation(network, batch, targets, maps, method, masks=masks)
            for score in (kind for kind in SCORES.values() if not kind.on_request):
                score().update(evaluation)

        (spent, _), (bare, _) = take_turns(work, partial(forwards, network, batch, 8), repeats=1)
        worth = spent / (bare / 8)
        total += worth
        hours = spent / images * 50_000 / 8 / 3600
        print(f"| {method.title} | {spent / images * 1e3:.0f} | {worth:.0f} | {hours:.1f} h |", flush=True)
    print(
        f"\nall: {total:.0f} forward passes of one image each; 50,000 images on 8 devices of R images/s: "
        f"{total * 50_000 / 8 / 3600:.0f} h / R"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs=2, default=[16, 64], help="of the two runs (default: %(default)s)")
    parser.add_argument("--batches", type=int, default=500, help="for the memory (default: %(default)s)")
    parser.add_argument("--each", type=int, default=2, help="images for the costs (default: %(default)s)")
    parser.add_argument("--methods", default=", ".join([*CAMS, *(f"RefineCAM({cam})" for cam in CAMS), PIXEL]))
    arguments = parser.parse_args()
    few, many = arguments.images
    loop = [seconds(many, n) - seconds(few, n) for n in (1, 2)]
    print(
        f"{many - few} images more of 224 px: one process {loop[0]:.1f} s, two {loop[1]:.1f} s, "
        f"{loop[0] / loop[1]:.2f} times as fast\n",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        network = ("--model.checkpoint", "null", "--model.network", "tests.benchmarks.evaluation.small")
        watch = ("--model.image_size", "64", "--trainer.callbacks+", "tests.benchmarks.evaluation.Memory")
        shown = evaluate(folder, 2 * arguments.batches, "GradCAM++, RefineCAM(LayerCAM)", 2, *network, *watch)
    print("\n".join(line for line in shown.splitlines() if line.endswith("MB")), end="\n\n", flush=True)
    costs(arguments.each, arguments.methods)


if __name__ == "__main__":
    main()
