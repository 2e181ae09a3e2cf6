"""How fast data, maps and scores are, beside grad-cam 1.5.7 in the same run: ``make benchmark``.

Medians of repeated runs; times vary with the machine, ratios less.
"""

import os
import statistics
import time
from collections.abc import Callable

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import cv2
import torch
from pytorch_grad_cam.metrics.road import ROADCombined
from pytorch_grad_cam.refine_cam import RefineCAM as OracleRefineCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget, ClassifierOutputTarget

from refinecam.attribution import GradCAMPlusPlus, LayerCAM, RefineCAM
from refinecam.data import JointTransform, ShapesDataset
from refinecam.data.backgrounds import Backgrounds
from refinecam.data.scenes import crowd_scene
from refinecam.metrics.functional import road
from refinecam.models import create_backbone
from refinecam.seeding import generator


def median_seconds(work: Callable[[], object], repeats: int = 5) -> float:
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def samples() -> None:
    transform = JointTransform.for_backbone("resnet18")
    start = time.perf_counter()
    bank = Backgrounds([crowd_scene(generator(0, "benchmark", i)) for i in range(16)], transform.canvas)
    print(f"16 scenes with 2 imputed versions each: {time.perf_counter() - start:.1f} s, once")
    dataset = ShapesDataset([bank], transform, "train", 200)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    seconds = median_seconds(lambda: [dataset[i] for i in range(200)])
    torch.set_num_threads(threads)
    print(f"samples at {transform.image_size} px on one core: {200 / seconds:.0f} per second")


def maps_and_scores() -> None:
    network = create_backbone("resnet18", pretrained=False, num_classes=6).eval()
    layers = [network.layer1, network.layer2, network.layer3, network.layer4]
    images, classes = torch.randn(8, 3, 224, 224), [i % 6 for i in range(8)]
    targets = torch.tensor(classes)
    logit_targets = [ClassifierOutputTarget(c) for c in classes]
    refined, peer = RefineCAM(GradCAMPlusPlus()), OracleRefineCAM(network, layers)
    ours = median_seconds(lambda: refined(network, images, targets))
    theirs = median_seconds(lambda: peer(images, logit_targets), 3)
    print(f"RefineCAM(GradCAM++), 8 images: {ours * 1e3:.0f} ms, grad-cam {theirs * 1e3:.0f} ms: {theirs / ours:.1f}x")
    for base in peer.base_cam_per_layer:
        base.activations_and_grads.release()

    maps = RefineCAM(LayerCAM())(network, images[:2], targets[:2])
    chosen = [ClassifierOutputSoftmaxTarget(c) for c in classes[:2]]
    peer_road = ROADCombined([20, 40, 60, 80])
    ours = median_seconds(lambda: road(network, images[:2], targets[:2], maps), 3)
    with torch.no_grad():
        theirs = median_seconds(lambda: peer_road(images[:2], maps[:, 0].numpy(), chosen, network), 1)
    forwards = torch.randn(16, 3, 224, 224)
    with torch.no_grad():
        bare = median_seconds(lambda: network(forwards), 3)
    print(f"ROAD, 2 maps: {ours * 1e3:.0f} ms, grad-cam {theirs * 1e3:.0f} ms: {theirs / ours:.1f}x", end="; ")
    print(f"its 16 forward passes alone {bare * 1e3:.0f} ms")


if __name__ == "__main__":
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    samples()
    maps_and_scores()
