"""What FunnyBirds' scores share for one batch of images and one method, computed at most once."""

from collections.abc import Mapping, Sequence
from functools import cached_property

import torch
from torch import Tensor, nn

from refinecam.core.checks import check_input, check_logits
from refinecam.core.errors import InputError
from refinecam.core.memory import chunk_size
from refinecam.core.precision import wide
from refinecam.core.running import Method, eval_mode, fast_forward
from refinecam.data.funnybirds import scores
from refinecam.data.funnybirds.parts import PARTS, SUBSETS
from refinecam.data.funnybirds.scores import BirdClass

SINGLE = [SUBSETS - 1 - (1 << position) for position in range(len(PARTS))]
"""The sets from which one part is missing."""


class BirdBatch:
    """A batch of FunnyBirds' test images and what a network says of all their interventions, whatever the method.

    Args:
        model: returns logits; runs in eval mode, in bounded chunks.
        images: shape (N, 3, H, W).
        labels: their classes, int64 (N,).
        part_maps: part maps in the data set's colors, 0 to 255, shape (N, 3, H, W).
        subsets: each scene with each set of parts, in the order of :data:`.SUBSETS`, shape
            (N, 32, 3, H, W).
        removals: scenes without one background object, those of the first image first, shape (sum of K, 3, H, W).
        objects: number K of background objects of each image, int64 (N,).
        classes: entries of classes.json, in their order.
        chunk: images that go through the network at once; None takes what suits the device.

    Raises:
        InputError: if shapes or classes do not fit.
    """

    def __init__(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        part_maps: Tensor,
        subsets: Tensor,
        removals: Tensor,
        objects: Tensor,
        classes: Sequence[BirdClass],
        chunk: int | None = None,
    ) -> None:
        check_input(images, labels)
        expected = {
            "part_maps": (part_maps, images.shape),
            "subsets": (subsets, (len(images), SUBSETS, *images.shape[1:])),
            "objects": (objects, (len(images),)),
            "removals": (removals, (int(objects.sum()), *images.shape[1:])),
        }
        for name, (result, shape) in expected.items():
            if result.shape != tuple(shape):
                raise InputError(f"{name}: expected shape {tuple(shape)}, got {tuple(result.shape)}")
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(classes):
            raise InputError(f"labels: expected 0 to {len(classes) - 1}, got {labels.tolist()}")
        if not all(isinstance(entry, Mapping) and "parts" in entry for entry in classes):
            raise InputError("classes: expected entries of classes.json, such as FunnyBirdsDataModule.bird_classes")
        self.model, self.images, self.labels, self.part_maps = model, images, labels, part_maps
        self.subsets, self.removals, self.objects, self.classes = subsets, removals, objects, classes
        self.chunk = chunk_size(images, chunk)

    def _logits(self, images: Tensor) -> Tensor:
        with eval_mode(self.model):
            result = [fast_forward(self.model, part) for part in images.split(self.chunk)]
        for logits, part in zip(result, images.split(self.chunk), strict=True):
            check_logits(logits, self.labels.new_full((len(part),), len(self.classes) - 1))
            if logits.shape[1] != len(self.classes):
                raise InputError(f"model: it has {logits.shape[1]} classes, classes has {len(self.classes)}")
        return torch.cat(result).float()

    @cached_property
    def scene_logits(self) -> Tensor:
        """Logits of the images with each set of parts, (N, 32, classes), and of the images, together (N, 33, classes).

        Scenes of an image that are equal, because what is missing was hidden, have equal logits, to the last bit: one
        of them goes through the network for all. Rounding in batches of other sizes would break ties otherwise.
        """
        scenes = torch.cat([self.subsets, self.images[:, None]], 1)
        same = torch.arange(SUBSETS + 1, device=scenes.device).repeat(len(scenes), 1)
        for position in range(len(PARTS)):
            bit = 1 << position
            having = torch.tensor([subset for subset in range(SUBSETS) if subset & bit], device=scenes.device)
            equal = (self.subsets[:, having] == self.subsets[:, having - bit]).flatten(2).all(2)
            same[:, having] = torch.where(equal, torch.minimum(same[:, having], having - bit), same[:, having])
        whole = (self.images == self.subsets[:, -1]).flatten(1).all(1)
        same[:, -1] = torch.where(whole, SUBSETS - 1, SUBSETS)
        for _ in PARTS:  # a set that equals a smaller one that equals a smaller one
            same = same.gather(1, same)
        first = same == torch.arange(SUBSETS + 1, device=scenes.device)
        result = self._logits(scenes[first])
        place_of = (first.flatten().cumsum(0) - 1).view_as(first).gather(1, same)
        return result[place_of]

    @property
    def logits(self) -> Tensor:
        """Logits of the images, (N, classes)."""
        return self.scene_logits[:, -1]

    @cached_property
    def predictions(self) -> Tensor:
        """Predicted classes, (N,)."""
        return self.logits.argmax(1)

    @property
    def subset_logits(self) -> Tensor:
        """Logits with each set of parts, (N, 32, classes)."""
        return self.scene_logits[:, :-1]

    @cached_property
    def subset_predictions(self) -> Tensor:
        """Predicted classes with each set of parts, then those of the images, (N, 33)."""
        return self.scene_logits.argmax(2)

    @cached_property
    def clean(self) -> Tensor:
        """Logit of the label, (N,)."""
        return self.logits.gather(1, self.labels[:, None]).squeeze(1)

    @cached_property
    def without_part(self) -> Tensor:
        """Logit of the label without each part, (N, 5)."""
        return self.subset_logits[torch.arange(len(self.labels)), :, self.labels][:, SINGLE]

    @cached_property
    def without_object(self) -> Tensor:
        """Logit of the label without each background object, (N, most objects), NaN where there is none."""
        result = self.clean.new_full((len(self.labels), int(self.objects.max()) if len(self.objects) else 0), torch.nan)
        if len(self.removals):
            there = torch.arange(result.shape[1], device=result.device) < self.objects[:, None]
            owner = torch.arange(len(self.labels), device=result.device).repeat_interleave(self.objects)
            logits, hidden = self.logits[owner], (self.removals == self.images[owner]).flatten(1).all(1)
            if not hidden.all():
                logits[~hidden] = self._logits(self.removals[~hidden])  # as with the parts
            result[there] = logits.gather(1, self.labels[owner, None]).squeeze(1)
        return result

    @cached_property
    def weights(self) -> Tensor:
        """See :func:`~refinecam.data.funnybirds.scores.part_weights`."""
        return scores.part_weights(self.part_maps, self.without_object.shape[1])

    @cached_property
    def background_independence(self) -> Tensor:
        """See :func:`~refinecam.data.funnybirds.scores.background_independence`."""
        return scores.background_independence(self.clean, self.without_object)

    @cached_property
    def sensitivity(self) -> tuple[Tensor, Tensor]:
        """Pairs (N, 4) of :func:`~refinecam.data.funnybirds.scores.sensitivity_pairs`, and where they hold.

        They hold, bool (N,), where removing the parts shared with one class costs this class more than removing those
        shared with the other, and the other way round.
        """
        pairs = scores.sensitivity_pairs(self.classes).to(self.labels.device)[self.labels]
        rows = torch.arange(len(pairs), device=pairs.device)
        one, other, first, second = pairs.clamp(min=0).T
        no_first, no_second = (self.subset_logits[rows, SUBSETS - 1 - parts] for parts in (first, second))

        def change(logits: Tensor, chosen: Tensor) -> Tensor:
            return logits[rows, chosen] - self.logits[rows, chosen]

        holds = change(no_first, one) < change(no_second, one)
        holds &= change(no_second, other) < change(no_first, other)
        return pairs, holds & (pairs[:, 0] >= 0)


class BirdEvaluation:
    """The maps of one method for a batch, and what all scores need of them.

    Args:
        batch: images and interventions.
        maps: maps of the labels, any finite values, shape (N, 1, H, W).
        method: the attribution method that made them, asked again for other classes.
    """

    def __init__(self, batch: BirdBatch, maps: Tensor, method: Method) -> None:
        scores.check_sizes(maps, batch.part_maps)
        self.batch, self.maps, self.method = batch, maps, method

    @cached_property
    def undefined(self) -> Tensor:
        """Images of which a map is not finite, bool (N,).

        They are scored as the authors do: nothing is important by such a map, and SD has no value.
        """
        maps = torch.stack([self.maps, self.predicted_maps], 1)
        return ~maps.flatten(1).isfinite().all(1)

    def _explain(self, known: Tensor, rows: Tensor, targets: Tensor) -> Tensor:
        """The known maps, but of the rows, bool (N,), new ones that explain their targets, (N,)."""
        maps = known.clone()
        if rows.any():
            images = self.batch.images[rows]
            maps[rows] = self.method(self.batch.model, images, targets[rows]).to(maps)
        return maps

    @cached_property
    def predicted_maps(self) -> Tensor:
        """Maps of the predicted classes, (N, 1, H, W)."""
        return self._explain(self.maps, self.batch.predictions != self.batch.labels, self.batch.predictions)

    @cached_property
    def importance(self) -> Tensor:
        """Importance of parts and background objects for the label, (N, 5 + most objects)."""
        return scores.importance_of(self.maps, self.batch.weights)

    @cached_property
    def important(self) -> Tensor:
        """What is important for the label at each threshold, bool (N, T, 5 + most objects)."""
        return scores.important_parts(self.maps, self.importance)

    @cached_property
    def predicted_codes(self) -> Tensor:
        """Sets of parts that are important for the predicted class at each threshold, (N, T)."""
        importance = scores.importance_of(self.predicted_maps, self.batch.weights[:, : len(PARTS)])
        return scores.subset_codes(scores.important_parts(self.predicted_maps, importance))

    @cached_property
    def controlled_synthetic_data_check(self) -> Tensor:
        """CSDC, (N, T); NaN for misclassified images, which are skipped."""
        table = scores.sufficiency_table(self.batch.classes)
        codes = scores.subset_codes(self.important)
        result = scores.controlled_synthetic_data_check(codes, self.batch.labels, table)
        return result.masked_fill((self.batch.predictions != self.batch.labels)[:, None], torch.nan)

    @cached_property
    def preservation_check(self) -> Tensor:
        """PC of the predicted class, (N, T)."""
        return scores.preservation_check(self.predicted_codes, self.batch.subset_predictions)

    @cached_property
    def deletion_check(self) -> Tensor:
        """DC of the predicted class, (N, T)."""
        return scores.deletion_check(self.predicted_codes, self.batch.subset_predictions)

    @cached_property
    def distracted_share(self) -> Tensor:
        """1 - D of the label, (N, T); NaN where no part and no object is irrelevant."""
        without = torch.cat([self.batch.without_part, self.batch.without_object], 1)
        return scores.distracted_share(self.important, scores.irrelevant_parts(self.batch.clean, without))

    @cached_property
    def single_deletion(self) -> Tensor:
        """SD of the label, (N,)."""
        drops = wide(self.batch.clean)[:, None] - wide(self.batch.without_part)
        return scores.single_deletion(drops, self.importance[:, : len(PARTS)])

    @cached_property
    def target_sensitivity(self) -> Tensor:
        """TS, (N,): 0, ½ or 1; NaN where the network does not react to the parts as the score presumes."""
        pairs, holds = self.batch.sensitivity
        maps = [self._explain(self.maps, holds, pairs[:, position]) for position in (0, 1)]
        weights = self.batch.weights[:, : len(PARTS)]
        bits = torch.arange(len(PARTS), device=pairs.device)
        first, second = ((pairs[:, position, None] >> bits & 1).to(weights) for position in (2, 3))
        one, other = (scores.importance_of(result, weights) for result in maps)
        right = wide((one * first).sum(1) > (other * first).sum(1))
        right += (one * second).sum(1) < (other * second).sum(1)
        return (right / 2).masked_fill(~holds, torch.nan)
