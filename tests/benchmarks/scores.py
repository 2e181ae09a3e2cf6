"""How fast ROAD and ARCC are, beside grad-cam 1.5.7 in the same run: ``python -m tests.benchmarks.scores``.

ResNet18 with the shipped weights on procedural shapes. A score should cost the network's forward passes and little
else: ROAD beside its eager forward passes is printed, and images per second of all scores beside bare forwards.
"""

import argparse
import os
from collections.abc import Callable
from functools import partial

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import torch
from pytorch_grad_cam import GradCAMPlusPlus as PeerCAM
from pytorch_grad_cam.metrics.arcc import ARCC as PeerARCC
from pytorch_grad_cam.metrics.road import ROADCombined
from pytorch_grad_cam.refine_cam import RefineCAM as PeerRefineCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget
from torch import Tensor, nn

from refinecam.attribution import GradCAMPlusPlus, LayerCAM, RandomCAM, RefineCAM
from refinecam.core.memory import chunk_size
from refinecam.core.running import eval_mode, fast_forward
from refinecam.data import ShapesDataModule
from refinecam.metrics import SCORES, MapEvaluation
from refinecam.metrics.functional import arcc, road
from refinecam.models import load_network
from tests.benchmarks.timing import machine, take_turns

STAGES = ["layer1", "layer2", "layer3", "layer4"]
METHODS = (GradCAMPlusPlus(), RefineCAM(LayerCAM()), RandomCAM())


def shapes(count: int, size: int) -> tuple[Tensor, Tensor, Tensor]:
    data = ShapesDataModule(image_size=size, test_size=count, batch_size=count, held_out_scenes=8)
    data.setup("test")
    batch = next(iter(data.test_dataloader()))
    return batch["image"], batch["label"], batch["mask"]


def forwards(model: nn.Module, images: Tensor, times: int, eager: bool = False) -> None:
    """As many forward passes as ``times`` copies of the images need, in the chunks that the scores take.

    Args:
        model: the network.
        images: of one batch.
        times: copies of each.
        eager: the network as it is, its batch norms not folded.
    """
    chunk, total = chunk_size(images), len(images) * times
    copies = images.repeat(-(-chunk // len(images)), 1, 1, 1)
    if images.device.type == "cpu":
        copies = copies.contiguous(memory_format=torch.channels_last)
    with eval_mode(model), torch.no_grad():
        for start in range(0, total, chunk):
            part = copies[: min(chunk, total - start)]
            model(part) if eager else fast_forward(model, part)


def in_half(work: Callable[[], Tensor]) -> Tensor:
    """The same with the network in bfloat16."""
    with torch.autocast("cuda" if torch.cuda.is_available() else "cpu", torch.bfloat16):
        return work()


def all_scores(model: nn.Module, images: Tensor, targets: Tensor, masks: Tensor) -> None:
    cam = RefineCAM(GradCAMPlusPlus())
    evaluation = MapEvaluation(model, images, targets, cam(model, images, targets), cam, masks=masks)
    for score in (kind for kind in SCORES.values() if not kind.on_request):
        score().update(evaluation)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4, help="images a batch (default: %(default)s)")
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[112, 224, 448], help="for growth (default: %(default)s)"
    )
    parser.add_argument("--repeats", type=int, default=3, help="(default: %(default)s)")
    arguments = parser.parse_args()
    network = load_network("shapes-resnet18")
    images, targets, masks = shapes(arguments.images, 224)
    count = len(images)
    chosen = [ClassifierOutputSoftmaxTarget(int(target)) for target in targets]
    print(f"resnet18, batches of {count} images of 224 px, times of one image, {machine()}\n")
    print("| work | ours | grad-cam | ratio | of its eager forward passes |\n|---|---|---|---|---|")
    peer_road = ROADCombined([20, 40, 60, 80])
    for method in METHODS:
        maps = method(network, images, targets)
        with torch.no_grad():
            (ours, _), (bare, _) = take_turns(
                partial(road, network, images, targets, maps),
                partial(forwards, network, images, 8, eager=True),
                repeats=arguments.repeats,
            )
            ((theirs, _),) = take_turns(partial(peer_road, images, maps[:, 0].numpy(), chosen, network), repeats=1)
        row = f"ROAD of {method.title} | {ours / count * 1e3:.0f} ms | {theirs / count * 1e3:.0f} ms"
        print(f"| {row} | {theirs / ours:.1f}x | {ours / bare:.2f}x |", flush=True)

    cam = RefineCAM(GradCAMPlusPlus())
    maps = cam(network, images, targets)
    layers = [network.get_submodule(name) for name in STAGES]
    peer_cam = PeerRefineCAM(network, layers, base_method=PeerCAM)
    peer_arcc = PeerARCC(peer_cam)
    ((ours, _),) = take_turns(partial(arcc, network, images, targets, maps, cam), repeats=arguments.repeats)
    ((theirs, _),) = take_turns(partial(peer_arcc, images, maps[:, 0].numpy(), chosen, network), repeats=1)
    for base in peer_cam.base_cam_per_layer:
        base.activations_and_grads.release()
    row = f"ARCC of {cam.title} | {ours / count * 1e3:.0f} ms | {theirs / count * 1e3:.0f} ms"
    print(f"| {row} | {theirs / ours:.1f}x | |\n", flush=True)

    print("Folded batch norms, and bfloat16 by torch.autocast, beside eager float32\n")
    print("| work | of eager float32 | largest difference |\n|---|---|---|")
    images, targets = images.repeat(4, 1, 1, 1), targets.repeat(4)
    maps = cam(network, images, targets)
    work = partial(road, network, images, targets, maps)
    (eager, _), (faster, _) = take_turns(
        partial(forwards, network, images, 4, eager=True), partial(forwards, network, images, 4)
    )
    with torch.no_grad(), eval_mode(network):
        difference = (fast_forward(network, images) - network(images)).abs().max()
    print(f"| forward passes, folded | {faster / eager:.2f}x | {difference:.1e} of logits |", flush=True)
    (full, expected), (half, found) = take_turns(work, partial(in_half, work), repeats=arguments.repeats)
    print(f"| ROAD, bfloat16 | {half / full:.2f}x | {(found - expected).abs().max():.1e} |\n", flush=True)

    print("Maps and all scores of RefineCAM(GradCAM++), beside bare forwards\n")
    print("| images | scored per second | bare forwards per second | forwards for one |\n|---|---|---|---|")
    for size in arguments.sizes:
        images, targets, masks = shapes(arguments.images, size)
        (ours, _), (bare, _) = take_turns(
            partial(all_scores, network, images, targets, masks),
            partial(forwards, network, images, 8),
            repeats=arguments.repeats,
        )
        rate = 8 * count / bare
        print(f"| {size} px | {count / ours:.2f} | {rate:.1f} | {rate * ours / count:.1f} |", flush=True)


if __name__ == "__main__":
    main()
