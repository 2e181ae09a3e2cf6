"""How fast data and scores are, beside grad-cam 1.5.7 in the same run: ``make benchmark``.

Medians of repeated runs; times vary with the machine, ratios less.
"""

import os
import time

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import cv2
import torch
from pytorch_grad_cam.metrics.road import ROADCombined
from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget

from refinecam.attribution import LayerCAM, RefineCAM
from refinecam.data import JointTransform, ShapesDataset
from refinecam.data.backgrounds import Backgrounds
from refinecam.data.scenes import crowd_scene
from refinecam.metrics.functional import road
from refinecam.models import create_backbone
from refinecam.seeding import generator
from tests.benchmarks.timing import take_turns


def samples() -> None:
    transform = JointTransform.for_backbone("resnet18")
    start = time.perf_counter()
    bank = Backgrounds([crowd_scene(generator(0, "benchmark", i)) for i in range(16)], transform.canvas)
    print(f"16 scenes with 2 imputed versions each: {time.perf_counter() - start:.1f} s, once")
    dataset = ShapesDataset([bank], transform, "train", 200)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    ((seconds, _),) = take_turns(lambda: [dataset[i] for i in range(200)])
    torch.set_num_threads(threads)
    print(f"samples at {transform.image_size} px on one core: {200 / seconds:.0f} per second")


def scores() -> None:
    network = create_backbone("resnet18", pretrained=False, num_classes=6).eval()
    images, targets = torch.randn(2, 3, 224, 224), torch.tensor([0, 1])
    maps = RefineCAM(LayerCAM())(network, images, targets)
    chosen = [ClassifierOutputSoftmaxTarget(c) for c in targets.tolist()]
    peer_road = ROADCombined([20, 40, 60, 80])
    forwards = torch.randn(16, 3, 224, 224)
    with torch.no_grad():
        (ours, _), (theirs, _), (bare, _) = take_turns(
            lambda: road(network, images, targets, maps),
            lambda: peer_road(images, maps[:, 0].numpy(), chosen, network),
            lambda: network(forwards),
            repeats=3,
        )
    print(f"ROAD, 2 maps: {ours * 1e3:.0f} ms, grad-cam {theirs * 1e3:.0f} ms: {theirs / ours:.1f}x", end="; ")
    print(f"its 16 forward passes alone {bare * 1e3:.0f} ms")


if __name__ == "__main__":
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    samples()
    scores()
