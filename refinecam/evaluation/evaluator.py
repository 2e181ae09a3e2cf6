"""The LightningModule that scores attribution methods over a test set."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.overrides.distributed import UnrepeatedDistributedSampler
from torch import Tensor, nn
from torch.utils.data import DistributedSampler

from refinecam.attribution import parse_methods
from refinecam.core.errors import InputError, check_counts, check_not_negative
from refinecam.data import OwnScorer, data_of
from refinecam.evaluation.accuracy import prediction_rows
from refinecam.evaluation.report import report
from refinecam.evaluation.table import Results
from refinecam.metrics import SCORES, MapEvaluation, PerImageMean, parse_scores
from refinecam.models import build_network, check_colors, create_backbone, read_weights
from refinecam.models.checkpoints import SHIPPED
from refinecam.models.foreign import IMAGENET, network_by_name


class Evaluator(L.LightningModule):
    """Every score of every method on every test image that the classifier gets right, and how often it does.

    Run it with ``Trainer(inference_mode=False).test``: maps need gradients. Its product is a table with a row for each
    image and method, from which :func:`~refinecam.evaluation.report` makes the rest. A data set's own scores, such as
    FunnyBirds', come with its own batches, and count misclassified images too, as their authors do.

    Args:
        backbone: timm name of the network; null for the checkpoint's.
        checkpoint: weights written by train.py, or a shipped name such as ``shapes-resnet18``; null for the ImageNet
            weights of ``backbone``, which must then be named. A state dict of timm's or torchvision's network of this
            ``backbone`` works, too.
        network: a network of your own, ``package.module.function`` that returns it; instead of the two.
        methods: attribution methods as one writes them in Python, separated by commas or as a list: ``GradCAM``,
            ``LayerCAM(stage=0)``, ``RefineCAM(LayerCAM)``, ``RandomCAM``. With none, the classifier alone is evaluated.
        scores: scores, likewise, with their options: ``arcc, road(percentiles=(10, 50))``; null for all that the data
            allow. With ground truth: ``cosine_similarity``, ``iou``, ``mass_accuracy``, ``pointing_game``, ``roc_auc``;
            without: ``adcc``, ``arcc``, ``average_drop``, ``coherency``, ``complexity``, ``increase_in_confidence``,
            ``road``. ``insertion`` and ``deletion`` cost more than all others together and come only by name.
        target: class to explain: the true ``label`` or the ``predicted`` one.
        only_correct: score only images that are classified correctly; the others are counted as skipped.
        output: folder for tables, summary and figure.
        image_size: side of the images, where not the checkpoint's or the backbone's own.
        seed: seed of what scores draw: ROAD's noise, and the order among equal pixels.
        chunk: images that go through the network at once for a score; null for what suits the device.
        figure_images: images shown in the figure.
    """

    def __init__(
        self,
        backbone: str | None = None,
        checkpoint: str | None = None,
        methods: str | list[str] = "GradCAM++, LayerCAM, RefineCAM(GradCAM++), RefineCAM(LayerCAM), RandomCAM",
        scores: str | list[str] | None = None,
        target: Literal["label", "predicted"] = "label",
        only_correct: bool = True,
        output: str = "runs/evaluation",
        image_size: int | None = None,
        seed: int = 0,
        chunk: int | None = None,
        figure_images: int = 6,
        network: str | None = None,
    ) -> None:
        super().__init__()
        self.methods = parse_methods(methods)
        self.chosen = None if scores is None else [score.title for score in parse_scores(scores)]
        if self.chosen is not None and not self.chosen:
            raise InputError("scores: expected at least one, or null for the usual ones")
        check_counts({"chunk": chunk})
        check_not_negative(seed=seed, figure_images=figure_images)
        self.target, self.only_correct, self.figure_images = target, only_correct, figure_images
        self.seed, self.chunk = seed, chunk
        self.results = Results(output)
        self.checkpoint: Path | None = None
        self.normalize: bool | None = None
        if network is not None:
            if checkpoint is not None or backbone is not None:
                raise InputError(f"network: {network} has its weights; leave out checkpoint and backbone")
            self.name, self.image_size = network, image_size
            self.network = network_by_name(network)
        elif checkpoint is not None:
            weights = read_weights(checkpoint, backbone, image_size)
            self.checkpoint, self.normalize = weights.path, weights.normalize
            own = weights.path.parent == SHIPPED or checkpoint == IMAGENET
            file = Path(checkpoint).stem if own else f"{weights.path.parent.name}/{weights.path.name}"
            self.name, self.image_size = f"{weights.backbone} ({file})", weights.image_size
            self.network = build_network(weights)
        elif backbone is not None:
            self.name, self.image_size = f"{backbone} (ImageNet)", image_size
            self.network = create_backbone(backbone, pretrained=True, image_size=image_size)
        else:
            raise InputError("checkpoint: name trained weights, a backbone for its ImageNet weights, or a network")
        side = self.image_size
        example = None if side is None else torch.zeros(1, 3, side, side)
        for method in self.methods:  # a stage that is not there is noticed before the data are prepared
            method.layers(self.network, example)
        self.network.to(memory_format=torch.channels_last)  # in which convolutions are fastest, with images alike
        self.metrics = nn.ModuleList()
        self.own: OwnScorer | None = None
        self.kept = 0
        self.unread: list[dict[str, Any]] = []
        self.written: list[Path] = []

    def setup(self, stage: str) -> None:
        """Refuse, before anything is written, what would fail later: other classes or colors, no gradients."""
        if self.methods and getattr(self.trainer.test_loop, "inference_mode", False):
            raise InputError("trainer: maps need gradients; use Trainer(inference_mode=False)")
        classes, known = data_of(self.trainer).classes, getattr(self.network, "num_classes", None)
        if classes and known is not None and len(classes) != known:
            raise InputError(
                f"checkpoint: the network has {known} classes, the data have {len(classes)}; "
                "use one that was trained on these data"
            )
        if self.normalize is not None:
            check_colors("checkpoint", self.checkpoint, self.normalize, data_of(self.trainer).normalized)

    def on_test_start(self) -> None:
        """Prepare for the first batch, which decides which scores there are.

        Raises:
            InputError: if the loader would show an image on two processes.
        """
        loader = self.trainer.test_dataloaders
        sampler = getattr(loader, "sampler", None)
        if isinstance(sampler, DistributedSampler) and not isinstance(sampler, UnrepeatedDistributedSampler):
            count = len(sampler.dataset)  # type: ignore[arg-type]
            if count % sampler.num_replicas:
                raise InputError(
                    f"datamodule: {count} images cannot be dealt evenly to {sampler.num_replicas} processes, so some "
                    "would count twice; make the loader with refinecam.data.sampling.evaluation_loader"
                )
        self.metrics, self.own, self.kept, self.unread = nn.ModuleList(), None, 0, []

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Classify, explain and score one batch, and write its rows."""
        self.unread += batch.get("skipped", [])
        if "image" not in batch:  # no file of it could be read
            return
        if not self.metrics:
            self._start(batch)
        part = f"rank{self.trainer.global_rank:03d}-{batch_idx:06d}"
        batch["image"] = batch["image"].contiguous(memory_format=torch.channels_last)
        logits = self.network(batch["image"])
        predicted = logits.argmax(1)
        outside = batch["label"][(batch["label"] < 0) | (batch["label"] >= logits.shape[1])]
        if len(outside):
            raise InputError(
                f"data: label {outside[0].item()} is not one of the network's {logits.shape[1]} classes; "
                "use a network that was trained on these data"
            )
        targets = batch["label"] if self.target == "label" else predicted
        keep = (predicted == batch["label"]) | (not self.only_correct)
        confidence = logits.float().softmax(1).gather(1, targets[:, None]).squeeze(1)
        controls = {name: self.network(images).argmax(1) for name, images in batch.get("controls", {}).items()}
        described = data_of(self.trainer).describe(batch)
        self.results.add("predictions", part, prediction_rows(batch, predicted, controls, described))
        rows, own_rows, maps = [], [], {}
        if self.own is not None:
            self.own.start(self.network, batch)
        known = {"label": batch["label"], "predicted": predicted, "target": targets, "skipped": ~keep}
        for number, (method, of_method) in enumerate(zip(self.methods, self.metrics, strict=False)):
            self._show(f"{number} of {len(self.methods)} methods: {method.title}")
            metrics = _scores(of_method)
            columns = dict(known)
            if self.own is not None:
                own = self.own.score(method, targets)
                indices = batch["index"].tolist()
                own_rows += [{**_named(method, i), **row} for i, row in zip(indices, own.rows, strict=True)]
                maps[method.title] = own.maps
                columns |= own.columns
            elif keep.any():
                maps[method.title] = _spread(method(self.network, batch["image"][keep], targets[keep]), keep)
            columns |= self._score(method, metrics, batch, targets, confidence, keep, maps.get(method.title))
            values = {name: column.tolist() for name, column in columns.items()}
            rows += [
                {**_named(method, index), **{name: column[i] for name, column in values.items()}}
                for i, index in enumerate(batch["index"].tolist())
            ]
        self.results.add("per_image", part, rows)
        if self.own is not None:
            self.results.add(self.own.table, part, own_rows)
        self._keep_maps(batch, keep, maps)

    def _start(self, batch: dict[str, Any]) -> None:
        """Choose the scores by what the first batch has, and say in the folder what is evaluated."""
        usual = [name for name, s in SCORES.items() if not s.on_request and ("mask" in batch or not s.needs_masks)]
        titles = self.chosen or sorted(usual, key=lambda name: not SCORES[name].needs_masks)
        self.metrics = nn.ModuleList(
            nn.ModuleList(parse_scores(titles)).to(self.device) for _ in range(max(1, len(self.methods)))
        )
        data = data_of(self.trainer)
        self.own = data.own_scorer(batch, self.chunk) if self.methods else None
        if self.trainer.is_global_zero:
            about = {
                "title": f"{self.name}, {data.title}",
                "classes": [str(name) for name in data.classes],
                "expected_of_controls": dict(data.expected_of_controls),
                "least_accuracy": data.least_accuracy,
                "scores": [
                    {"name": s.title, "needs_masks": s.needs_masks, "note": s.note} for s in parse_scores(titles)
                ],
                "target": self.target,
                "only_correct": self.only_correct,
            }
            self.results.start(about)
        self.trainer.strategy.barrier()

    def _show(self, text: str) -> None:
        """Say what is done within the batch, which may take minutes."""
        bar = getattr(self.trainer.progress_bar_callback, "test_progress_bar", None)
        if bar is not None:
            bar.set_postfix_str(text)

    def _score(
        self,
        method: Any,
        metrics: Sequence[PerImageMean],
        batch: dict[str, Any],
        targets: Tensor,
        confidence: Tensor,
        keep: Tensor,
        maps: Tensor | None,
    ) -> dict[str, Tensor]:
        """Each score of one method's maps, (N,); NaN where an image was skipped or has none."""
        for metric in metrics:
            metric.skip(int((~keep).sum()))
        if maps is None or not keep.any():
            return {metric.title: torch.full_like(confidence, torch.nan) for metric in metrics}
        evaluation = MapEvaluation(
            self.network,
            batch["image"][keep],
            targets[keep],
            maps[keep],
            method,
            masks=batch["mask"][keep] if "mask" in batch else None,
            index=batch["index"][keep],
            clean_confidence=confidence[keep],
            seed=self.seed,
            chunk=self.chunk,
        )
        for metric in metrics:
            metric.update(evaluation)
        return {metric.title: _spread(metric.per_image(evaluation), keep) for metric in metrics}

    def on_test_epoch_end(self) -> None:
        """Log what the metrics of all processes say; merge the rows that these wrote, and report."""
        for method, metrics in zip(self.methods, self.metrics, strict=False):
            for metric in _scores(metrics):
                self.log(f"{metric.title}/{method.title}", metric.compute(), logger=False, sync_dist=True)
        if self.metrics:
            self.results.add("skipped", f"rank{self.trainer.global_rank:03d}", self.unread)
        self.trainer.strategy.barrier()
        if self.trainer.is_global_zero and self.metrics:
            self.results.merge(self.figure_images)
            written = report(self.results.folder, self.trainer.loggers)
            tables = [self.results.folder / f"{name}.parquet" for name in self.results.about["tables"]]
            self.written = [*tables, *written]

    def _keep_maps(self, batch: dict[str, Tensor], keep: Tensor, maps: dict[str, Tensor]) -> None:
        """Keep the first images of this process for the figure."""
        data = data_of(self.trainer)
        for i in keep.nonzero().flatten().tolist() if maps else []:
            if self.kept == self.figure_images:
                return
            self.kept += 1
            label = int(batch["label"][i])
            content = {"image": data.colors(batch["image"][i]), **{f"map: {name}": m[i] for name, m in maps.items()}}
            if "mask" in batch:
                content["mask"] = batch["mask"][i]
            arrays: dict[str, Any] = {name: value.half().cpu().numpy() for name, value in content.items()}
            arrays["name"] = str(data.classes[label] if data.classes else label)
            self.results.keep(int(batch["index"][i]), arrays)


def _scores(metrics: nn.Module) -> list[PerImageMean]:
    return [metric for metric in metrics.children() if isinstance(metric, PerImageMean)]


def _named(method: Any, index: int) -> dict[str, Any]:
    return {"index": index, "method": method.name, "stage": method.stage_title, "aggregator": method.aggregator or ""}


def _spread(values: Tensor, keep: Tensor) -> Tensor:
    """Values of the kept images at their places among all; NaN at the others."""
    spread = values.new_full((len(keep), *values.shape[1:]), torch.nan)
    spread[keep] = values
    return spread
