"""How fast shapes and birds are drawn: ``python -m tests.benchmarks.data``."""

import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import cv2
import torch

from refinecam.core.seeding import generator
from refinecam.data import JointTransform, ShapesDataset
from refinecam.data.funnybirds.writer import draw_classes, draw_entry, write_sample
from refinecam.data.sampling import training_loader
from refinecam.data.shapes.backgrounds import Backgrounds
from refinecam.data.shapes.scenes import crowd_scene
from tests.benchmarks.timing import take_turns


def main() -> None:
    transform = JointTransform.for_backbone("resnet18")
    start = time.perf_counter()
    bank = Backgrounds([crowd_scene(generator(0, "benchmark", i)) for i in range(16)], transform.canvas, augment=True)
    print(f"16 scenes with 2 imputed versions each: {time.perf_counter() - start:.1f} s, once")
    dataset = ShapesDataset([bank], transform, "train", 10_000, as_bytes=True)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    ((seconds, _),) = take_turns(lambda: [dataset[i] for i in range(200)])
    print(f"samples at {transform.image_size} px on one core: {200 / seconds:.0f} per second")
    workers = max(2, (os.cpu_count() or 2) - 2)
    batches = iter(training_loader(dataset, 64, workers))
    next(batches)  # the workers have started
    start = time.perf_counter()
    count = sum(len(next(batches)["label"]) for _ in range(20 * workers))
    print(f"with {workers} workers: {count / (time.perf_counter() - start):.0f} per second")
    (bird,) = draw_classes(1, 0)
    for split, count in (("train", 40), ("test", 8)):
        with TemporaryDirectory() as folder:
            start = time.perf_counter()
            files = sum(
                write_sample(Path(folder), 256, (split, i, draw_entry(bird, split, i, 0))) for i in range(count)
            )
            rate = count / (time.perf_counter() - start)
        print(f"birds ({split}) at 256 px on one core: {rate:.0f} scenes, {files / count * rate:.0f} files per second")


if __name__ == "__main__":
    main()
