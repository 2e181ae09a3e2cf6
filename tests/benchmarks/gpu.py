"""Everything on a GPU in a few minutes: ``python -m tests.benchmarks.gpu``.

The tests that need one; then, after a warm-up and with synchronization, ROAD and ARCC beside the bare forward passes
and beside grad-cam on the same GPU, in float32, with TF32 and in bfloat16; how far the scores are from the CPU's; the
maps beside their peers; the evaluation's loop with the GPU's use; and what the CPU waits for in ROAD. On a machine
without one it runs on the CPU, which tests the script.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import pandas as pd
import torch
from pytorch_grad_cam.metrics.road import ROADCombined
from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget
from torch import Tensor, nn

from refinecam.attribution import GradCAMPlusPlus, RefineCAM
from refinecam.metrics.functional import arcc, road
from refinecam.models import load_network
from tests.benchmarks import attribution
from tests.benchmarks.evaluation import ROOT
from tests.benchmarks.scores import forwards, shapes
from tests.benchmarks.timing import machine, take_turns

NETWORKS = ("shapes-resnet18", "shapes-convnext_tiny")
PRECISIONS = ("float32", "tf32", "bfloat16")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@contextmanager
def precision(name: str) -> Iterator[None]:
    """Run the network so."""
    allowed = name == "tf32"
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=allowed):
        torch.backends.cuda.matmul.allow_tf32 = allowed
        with torch.autocast(DEVICE, torch.bfloat16) if name == "bfloat16" else nullcontext():
            yield
    torch.backends.cuda.matmul.allow_tf32 = False


def scores(name: str, batches: list[int], size: int) -> None:
    """Rows of one network: each precision and batch."""
    network = load_network(name)
    images, targets, _ = shapes(max(batches), size)
    cam = RefineCAM(GradCAMPlusPlus())
    few = slice(0, min(4, len(images)))
    maps = cam(network, images[few], targets[few])
    arguments = images[few], targets[few], maps
    expected = road(network, *arguments), arcc(network, *arguments, cam)
    network, images, targets = network.to(DEVICE), images.to(DEVICE), targets.to(DEVICE)
    for kind in PRECISIONS:
        with precision(kind):
            moved = images[few], targets[few], maps.to(DEVICE)
            found = road(network, *moved), arcc(network, *moved, cam)
            apart = max(float((a.cpu() - b).abs().max()) for a, b in zip(found, expected, strict=True))
            for batch in batches:
                part, classes = images[:batch], targets[:batch]
                own = cam(network, part, classes)
                (of_road, _), (of_arcc, _), (bare, _), (folded, _) = take_turns(
                    partial(road, network, part, classes, own),
                    partial(arcc, network, part, classes, own, cam),
                    partial(forwards, network, part, 8, eager=True),
                    partial(forwards, network, part, 8),
                    repeats=3,
                )
                cost = f"{of_road / batch * 1e3:.2f} ms | {of_road / bare:.2f}x | {1 - folded / of_road:.0%}"
                rate = f"{of_arcc / batch * 1e3:.2f} ms | {batch / of_arcc:.0f}"
                print(f"| {name} | {kind} | {batch} | {cost} | {rate} | {apart:.1e} |", flush=True)


def beside_grad_cam(network: nn.Module, images: Tensor, targets: Tensor) -> None:
    """ROAD of a batch of ours beside grad-cam's, one image after the other, on the same device."""
    maps = RefineCAM(GradCAMPlusPlus())(network, images, targets)
    ((ours, _),) = take_turns(partial(road, network, images, targets, maps), repeats=3)
    peer, few = ROADCombined([20, 40, 60, 80]), slice(0, 2)
    chosen = [ClassifierOutputSoftmaxTarget(int(target)) for target in targets[few]]
    ((theirs, _),) = take_turns(partial(peer, images[few], maps[few, 0].cpu().numpy(), chosen, network), repeats=1)
    each = theirs / len(chosen)
    print(f"\nROAD of grad-cam here: {each * 1e3:.0f} ms an image, ours {each * len(images) / ours:.0f}x as fast\n")


@contextmanager
def watched_use() -> Iterator[list[int]]:
    """The GPU's use in percent, five times a second, there at the end; empty without one."""
    values: list[int] = []
    if DEVICE == "cpu":
        yield values
        return
    query = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "--loop-ms=200"]
    with subprocess.Popen(query, stdout=subprocess.PIPE, text=True) as watch:
        yield values
        watch.terminate()
        values += [int(line) for line in watch.communicate()[0].split() if line.isdigit()]


def loop(images: int, batch: int) -> None:
    """The evaluation's own loop, by backend of the distributed strategy; the tables must agree."""
    tables = {}
    for backend in ("nccl", "gloo") if DEVICE == "cuda" else ("gloo",):
        with tempfile.TemporaryDirectory() as folder, watched_use() as use:
            command = [sys.executable, "evaluate.py", "--config", "configs/evaluate/shapes.yaml", "--output", folder]
            command += ["--data.test_size", str(images), "--data.batch_size", str(batch), "--data.num_workers", "8"]
            command += ["--trainer.accelerator", "gpu" if DEVICE == "cuda" else "cpu", "--trainer.devices", "1"]
            command += ["--trainer.enable_progress_bar", "false"]
            command += ["--trainer.strategy", "lightning.pytorch.strategies.DDPStrategy"]
            command += ["--trainer.strategy.process_group_backend", backend]
            start = time.perf_counter()
            subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
            spent = time.perf_counter() - start
            tables[backend] = pd.read_parquet(Path(folder) / "per_image.parquet")
        busy = f", GPU busy {sum(use) / len(use):.0f}% of the time" if use else ""
        done = f"{len(tables[backend])} maps of {images} images in {spent:.1f} s with its start"
        print(f"evaluate.py, {backend}: {done}{busy}", flush=True)
    if len(tables) == 2:
        print(f"nccl and gloo give the same table: {tables['nccl'].equals(tables['gloo'])}", flush=True)


def profile(network: nn.Module, images: Tensor, targets: Tensor) -> None:
    """What takes the time in ROAD, and how often the CPU waits for the GPU."""
    maps = RefineCAM(GradCAMPlusPlus())(network, images, targets)
    road(network, images, targets, maps)
    with torch.profiler.profile() as recorded:
        road(network, images, targets, maps)
    rows = recorded.key_averages()
    waits = {row.key: row.count for row in rows if row.key in ("cudaStreamSynchronize", "aten::item", "aten::nonzero")}
    print(f"\nROAD of {len(images)} images waits: {waits}")
    print(rows.table(sort_by=f"self_{DEVICE}_time_total", row_limit=12, max_name_column_width=60))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16, 128], help="(default: %(default)s)")
    parser.add_argument("--size", type=int, default=224, help="side of the images (default: %(default)s)")
    parser.add_argument("--images", type=int, default=256, help="of the evaluation's loop (default: %(default)s)")
    parser.add_argument("--only-scores", action="store_true", help="no tests, peers and loop")
    arguments = parser.parse_args()
    print(f"{machine()}\n", flush=True)
    if not arguments.only_scores:
        subprocess.run([sys.executable, "-m", "pytest", "-q", "tests/test_cuda.py"], cwd=ROOT, check=False)
    print(
        "| network | precision | batch | ROAD an image | of bare forwards | outside | ARCC | images/s | off the CPU |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for name in NETWORKS:
        scores(name, arguments.batches, arguments.size)
    network = load_network(NETWORKS[0]).to(DEVICE)
    images, targets, _ = (value.to(DEVICE) for value in shapes(min(16, max(arguments.batches)), arguments.size))
    beside_grad_cam(network, images, targets)
    profile(network, images, targets)
    if not arguments.only_scores:
        sys.argv[1:] = []
        attribution.main()
        loop(arguments.images, 64)


if __name__ == "__main__":
    main()
