"""How fast maps are, beside grad-cam 1.5.7 and captum in the same run: ``python -m tests.benchmarks.attribution``.

ResNet18 with random weights. Peers run in turns with ours; times vary with the machine, ratios less. The last column is
the largest difference of the two maps, after both were min-max normalized.
"""

import argparse
from collections.abc import Callable
from contextlib import contextmanager
from functools import partial

import captum.attr
import pytorch_grad_cam
import torch
from captum._utils.models.linear_model import SkLearnLasso
from pytorch_grad_cam.refine_cam import RefineCAM as PeerRefineCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor

from refinecam.attribution import LIME, GradCAMPlusPlus, KernelSHAP, LayerCAM, RefineCAM, ScoreCAM
from refinecam.attribution.method import normalize
from refinecam.attribution.superpixel import superpixels
from refinecam.core.seeding import content_keys, generator
from refinecam.models import create_backbone
from tests.benchmarks.scores import forwards
from tests.benchmarks.timing import machine, take_turns

STAGES = ["layer1", "layer2", "layer3", "layer4"]
Maps = Callable[[], Tensor]


@contextmanager
def grad_cam(method, *args, **options):
    """A peer, and its hooks removed."""
    peer = method(*args, **options)
    try:
        yield peer
    finally:
        for cam in getattr(peer, "base_cam_per_layer", [peer]):
            cam.activations_and_grads.release()


def report(work: str, ours: Maps, peer: str, theirs: Maps, repeats: int) -> float:
    """Print one row of the table; returns our seconds."""
    (mine, found), (other, expected) = take_turns(ours, theirs, repeats=repeats)
    difference = (normalize(found.cpu()) - normalize(expected.cpu())).abs().max()
    print(f"| {work} | {mine:.3g} s | {peer} {other:.3g} s | {other / mine:.2f}x | {difference:.1e} |", flush=True)
    return mine


def captum_superpixels(network, image: Tensor, target: int, method: type, samples: int) -> Tensor:
    """Captum as one would call it, with our superpixels and our seed, so that the maps can be compared."""
    index = superpixels(image[0], 100).to(image.device)
    lasso = {"interpretable_model": SkLearnLasso(alpha=0.01)} if method is captum.attr.Lime else {}
    (key,) = content_keys(image)
    name = {"Lime": "LIME", "KernelShap": "KernelSHAP"}[method.__name__]
    torch.manual_seed(int(generator(0, name, key).integers(2**31)))
    with torch.no_grad():
        return (
            method(network, **lasso)
            .attribute(image, target=target, feature_mask=index[None, None], n_samples=samples)[:, :1]
            .abs()
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=224, help="side of the images (default: %(default)s)")
    parser.add_argument("--images", type=int, default=8, help="images a batch (default: %(default)s)")
    parser.add_argument(
        "--masked", type=int, default=2, help="images for ScoreCAM, 512 masks each (default: %(default)s)"
    )
    parser.add_argument(
        "--samples", type=int, default=1000, help="samples of LIME and KernelSHAP for one image (default: %(default)s)"
    )
    parser.add_argument("--repeats", type=int, default=5, help="repeats of the short ones (default: %(default)s)")
    arguments = parser.parse_args()
    print(f"resnet18, {arguments.size} px, {machine()}\n")
    print("| work | ours | peer | ratio | difference |\n|---|---|---|---|---|")
    torch.manual_seed(0)
    network = create_backbone("resnet18", pretrained=False, num_classes=6).eval()
    with torch.no_grad():
        network.fc.weight.mul_(10)  # logits of a size that LIME's lasso can see
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network, images = network.to(device), torch.randn(arguments.images, 3, arguments.size, arguments.size).to(device)
    targets = torch.arange(len(images), device=device) % 6
    chosen = [ClassifierOutputTarget(int(target)) for target in targets]
    layers = [network.get_submodule(name) for name in STAGES]
    short = arguments.repeats

    with grad_cam(PeerRefineCAM, network, layers) as peer:
        report(
            f"RefineCAM(GradCAM++) over 4 stages, {len(images)} images",
            partial(RefineCAM(GradCAMPlusPlus()), network, images, targets),
            "grad-cam",
            lambda: torch.from_numpy(peer(images, chosen))[:, None],
            short,
        )

    def layer_cams() -> Tensor:
        maps = []
        for layer in layers:
            with grad_cam(pytorch_grad_cam.LayerCAM, network, [layer]) as peer:
                maps.append(torch.from_numpy(peer(images, chosen))[:, None])
        return torch.cat(maps)

    report(
        f"LayerCAM at all 4 stages, {len(images)} images",
        lambda: torch.cat(LayerCAM().maps(network, images, targets, STAGES)),
        "4 x grad-cam",
        layer_cams,
        short,
    )

    few = images[: arguments.masked]
    with grad_cam(pytorch_grad_cam.ScoreCAM, network, [network.layer4]) as peer:
        seconds = report(
            f"ScoreCAM, deepest stage, {len(few)} images",
            partial(ScoreCAM(), network, few, targets[: len(few)]),
            "grad-cam",
            lambda: torch.from_numpy(peer(few, chosen[: len(few)]))[:, None],
            1,
        )
    ((bare, _),) = take_turns(partial(forwards, network, few, 512), repeats=1)
    rate = f"{len(few) * 512 / seconds:.1f} of its masked images a second, {len(few) * 512 / bare:.1f} in bare forwards"

    for method, peer in ((LIME, captum.attr.Lime), (KernelSHAP, captum.attr.KernelShap)):
        report(
            f"{method.__name__}, {arguments.samples} samples, 100 segments, 1 image",
            partial(method(samples=arguments.samples), network, images[:1], targets[:1]),
            "captum",
            partial(captum_superpixels, network, images[:1], 0, peer, arguments.samples),
            1,
        )
    print(f"\nScoreCAM: {rate}: {bare / seconds:.2f}")


if __name__ == "__main__":
    main()
