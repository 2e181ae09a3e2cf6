"""A tiny network, classes and part maps of birds, and FunnyBirds' definitions step by step."""

import itertools

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import nn

from refinecam.data.funnybirds.evaluation import BirdBatch, BirdEvaluation
from refinecam.data.funnybirds.parts import BODY_COLOR, PART_COLORS, PARTS, object_color

SIZE, OBJECTS = 20, (3, 0, 1, 2, 5, 4)
THRESHOLDS = np.linspace(0.01, 0.50, num=80)


class Net(nn.Module):
    """Logits that depend on colors and places, positive and negative."""

    def __init__(self, classes):
        super().__init__()
        torch.manual_seed(3)
        self.layer = nn.Linear(3 * 16, classes)

    def forward(self, x):
        return self.layer(torch.nn.functional.adaptive_avg_pool2d(x, 4).flatten(1)) * 9


def make_classes(count):
    rng = np.random.default_rng(0)
    seen = set()
    while len(seen) < count:
        seen.add(tuple(int(v) for v in rng.integers(0, (2, 2, 2, 3, 2))))
    return [{"class_idx": i, "parts": dict(zip(PARTS, p, strict=True))} for i, p in enumerate(sorted(seen))]


CLASSES = make_classes(24)


def make_part_map(rng, objects):
    part_map = np.zeros((3, SIZE, SIZE), np.float32)
    for color in [BODY_COLOR, *sum(PART_COLORS.values(), ()), *(object_color(i) for i in range(objects))]:
        if rng.random() < 0.9:
            x, y, w, h = *rng.integers(0, SIZE - 4, 2), *rng.integers(1, 6, 2)
            part_map[:, y : y + h, x : x + w] = np.array(color)[:, None, None]
    return torch.from_numpy(part_map)


def method(model, images, targets):
    """A signed map that depends on image and class."""
    waves = torch.sin(images.mean(1, keepdim=True) * (3 + targets.view(-1, 1, 1, 1)) * 5)
    return waves + 0.4 * images[:, :1]


def evaluate(data, rows=slice(None), maps=None):
    model, images, labels, part_maps, subsets, removals, objects = data
    starts = [0, *np.cumsum(objects.tolist())]
    chosen = [removals[starts[i] : starts[i + 1]] for i in range(6)[rows]]
    batch = BirdBatch(
        model, images[rows], labels[rows], part_maps[rows], subsets[rows], torch.cat(chosen), objects[rows], CLASSES
    )
    return BirdEvaluation(batch, method(model, images[rows], labels[rows]) if maps is None else maps, method)


class Oracle:
    """One image: the definitions, step by step."""

    def __init__(self, data, i, classes=CLASSES):
        self.classes = classes
        self.model, images, labels, part_maps, subsets, removals, objects = data
        self.image, self.label, self.part_map = images[i : i + 1], int(labels[i]), part_maps[i]
        start = int(objects[:i].sum())
        self.subsets, self.removals = subsets[i], removals[start : start + int(objects[i])]
        self.prediction = int(self.logits(self.image[0]).argmax())

    def logits(self, image):
        with torch.no_grad():
            return self.model(image[None])[0]

    def importance(self, target, objects=0):
        found = method(self.model, self.image, torch.tensor([target]))[0, 0]
        names = {part: PART_COLORS[part] for part in PARTS}
        names |= {f"object {k}": (object_color(k),) for k in range(objects)}
        sums = {}
        for name, colors in names.items():
            total = 0.0
            for color in colors:
                for y, x in itertools.product(range(len(found)), range(len(found))):
                    window = self.part_map[:, max(0, y - 2) : y + 3, max(0, x - 2) : x + 3].reshape(3, -1).T
                    if any(tuple(pixel) == color for pixel in window.tolist()):
                        total += found[y, x].item()
            sums[name] = total
        return sums, found.sum().item()

    def important(self, target, objects=0):
        sums, total = self.importance(target, objects)
        return [{name for name, value in sums.items() if value > total * t} for t in THRESHOLDS]

    def kept(self, parts):
        return self.logits(self.subsets[sum(1 << PARTS.index(part) for part in parts)])

    def csdc(self):
        if self.prediction != self.label:
            return None
        own, best = self.classes[self.label]["parts"], []
        sets = [set(s) for n in range(1, 6) for s in itertools.combinations(PARTS, n)]
        others = [c["parts"] for c in self.classes if c["class_idx"] != self.label]
        sufficient = [s for s in sets if not any(all(own[p] == other[p] for p in s) for other in others)]
        minimal = [s for s in sufficient if not any(t < s for t in sufficient)]
        if self.label == len(self.classes) - 1:
            minimal = []  # as published
        for found in self.important(self.label):
            best.append(max((len(found & s) / len(s) for s in minimal), default=0))
        return best

    def pc(self):
        return [float(int(self.kept(s).argmax()) == self.prediction) for s in self.important(self.prediction)]

    def dc(self):
        found = self.important(self.prediction)
        return [float(int(self.kept(set(PARTS) - s).argmax()) != self.prediction) for s in found]

    def distractibility(self):
        clean = self.logits(self.image[0])[self.label].item()
        left = {p: self.kept(set(PARTS) - {p})[self.label].item() for p in PARTS}
        left |= {f"object {k}": self.logits(r)[self.label].item() for k, r in enumerate(self.removals)}
        irrelevant = {n for n, v in left.items() if abs(clean - v) < abs(clean * 0.05) or clean < v}
        if not irrelevant:
            return None
        return [1 - len(s & irrelevant) / len(irrelevant) for s in self.important(self.label, len(self.removals))]

    def independent(self):
        clean = self.logits(self.image[0])[self.label].item()
        left = [self.logits(r)[self.label].item() for r in self.removals]
        needed = [abs(clean - v) >= abs(clean * 0.05) and clean > v for v in left]
        return len(needed) - sum(needed), len(needed)

    def sd(self):
        clean = self.logits(self.image[0])[self.label].item()
        drops = [clean - self.kept(set(PARTS) - {p})[self.label].item() for p in PARTS]
        sums, _ = self.importance(self.label)
        return spearmanr(drops, [sums[p] for p in PARTS]).statistic * 0.5 + 0.5

    def ts(self):
        own = self.classes[self.label]["parts"]
        shared = {c["class_idx"]: {p for p in PARTS if c["parts"][p] == own[p]} for c in self.classes}
        near = [c for c, s in shared.items() if len(s) == 2]
        if len(near) < 2:
            return None
        for a, b in itertools.combinations(near, 2):
            if not shared[a] & shared[b]:
                break  # else the last pair stays, as in the authors' loops
        drop = {
            (c, d): (self.kept(set(PARTS) - shared[d]) - self.logits(self.image[0]))[c].item()
            for c in (a, b)
            for d in (a, b)
        }
        if not (drop[a, a] < drop[a, b] and drop[b, b] < drop[b, a]):
            return None
        sums = {c: self.importance(c)[0] for c in (a, b)}
        mine = {(c, d): sum(sums[c][p] for p in shared[d]) for c in (a, b) for d in (a, b)}
        return (float(mine[a, a] > mine[b, a]) + float(mine[a, b] < mine[b, b])) / 2
