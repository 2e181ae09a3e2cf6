"""The LightningModule that scores attribution methods over a test set."""

from typing import Any, Literal

import lightning as L
import torch
from torch import Tensor
from torchmetrics import MeanMetric

from refinecam.attribution import AttributionMethod, parse_methods
from refinecam.errors import InputError
from refinecam.evaluation.report import SummaryRow, method_columns, write_report
from refinecam.evaluation.results import ResultsFolder
from refinecam.metrics import (
    ADCC,
    ARCC,
    ROAD,
    AverageDrop,
    Coherency,
    Complexity,
    CosineSimilarity,
    MapEvaluation,
    PerImageMean,
)
from refinecam.metrics.functional import PERCENTILES, check_percentiles
from refinecam.models import create_backbone, load_network

SCORES: dict[str, type[PerImageMean]] = {
    "cosine_similarity": CosineSimilarity,
    "average_drop": AverageDrop,
    "complexity": Complexity,
    "coherency": Coherency,
    "adcc": ADCC,
    "road": ROAD,
    "arcc": ARCC,
}


class Evaluator(L.LightningModule):
    """Every score of every method on every test image that the classifier gets right.

    Run it with ``Trainer(inference_mode=False).test``: maps need gradients.

    Args:
        backbone: timm name of the network.
        checkpoint: weights written by train.py; null for timm's ImageNet weights.
        methods: attribution methods as one writes them in Python, separated by commas or as a list: ``GradCAM``,
            ``LayerCAM(stage=0)``, ``RefineCAM(LayerCAM)``, ``RandomCAM``.
        scores: names of the scores; null for all that the data allows.
        target: class to explain: the true ``label`` or the ``predicted`` one.
        only_correct: score only images that are classified correctly; the others are counted as skipped.
        output: folder for the per-image table, the summary and the figure.
        image_size: side of the images, where not the backbone's own.
        percentiles: shares of pixels, in percent, that ROAD takes away.
        noise: standard deviation of ROAD's noise, in normalised units.
        seed: seed of ROAD's draws.
        figure_images: images shown in the figure.
    """

    def __init__(
        self,
        backbone: str = "resnet18",
        checkpoint: str | None = None,
        methods: str | list[str] = "GradCAM++, LayerCAM, RefineCAM(GradCAM++), RefineCAM(LayerCAM), RandomCAM",
        scores: list[str] | None = None,
        target: Literal["label", "predicted"] = "label",
        only_correct: bool = True,
        output: str = "runs/evaluation",
        image_size: int | None = None,
        percentiles: tuple[float, ...] = PERCENTILES,
        noise: float = 0.01,
        seed: int = 0,
        figure_images: int = 6,
    ) -> None:
        super().__init__()
        self.methods = parse_methods(methods)
        check_percentiles(percentiles)
        unknown = [name for name in scores or [] if name not in SCORES]
        if unknown:
            raise InputError(f"scores: there is no {unknown[0]!r}; there are {', '.join(SCORES)}")
        self.target, self.only_correct, self.figure_images = target, only_correct, figure_images
        self.road_options: dict[str, Any] = {"percentiles": percentiles, "noise": noise, "seed": seed}
        self.results = ResultsFolder(output)
        if checkpoint is None:
            self.network = create_backbone(backbone, pretrained=True, image_size=image_size)
        else:
            self.network = load_network(checkpoint, backbone, image_size)
        self.scores, self.names = scores, list(scores or [])
        self.metrics: list[list[PerImageMean]] = []
        self.accuracy = MeanMetric()
        self.shown = 0

    def setup(self, stage: str) -> None:
        """Refuse, before anything is written, what would fail later: other classes, stages or no gradients."""
        if getattr(self.trainer.test_loop, "inference_mode", False):
            raise InputError(
                "trainer: maps need gradients; use --trainer.inference_mode false or Trainer(inference_mode=False)"
            )
        classes = getattr(getattr(self.trainer, "datamodule", None), "classes", None)
        known = getattr(self.network, "num_classes", None)
        if classes is not None and known is not None and len(classes) != known:
            raise InputError(
                f"checkpoint: the network tells {known} classes apart, the data has {len(classes)}; "
                "use --model.checkpoint with one that was trained on this data"
            )
        for method in self.methods:
            method.layers(self.network)

    def on_test_start(self) -> None:
        """Prepare the output folder and the metrics."""
        if self.trainer.is_global_zero:
            self.results.start()
        self.trainer.strategy.barrier()
        self.metrics = []
        self.shown = 0

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Explain and score one batch by every method."""
        if not self.metrics:
            self.names = self.scores or [name for name in SCORES if name != "cosine_similarity" or "mask" in batch]
            self.metrics = [[SCORES[name]().to(self.device) for name in self.names] for _ in self.methods]
        logits = self.network(batch["image"])
        predicted = logits.argmax(1)
        correct = predicted == batch["label"]
        self.accuracy.update(correct.float())
        keep = correct if self.only_correct else torch.ones_like(correct)
        targets = batch["label"] if self.target == "label" else predicted
        confidence = logits.float().softmax(1).gather(1, targets[:, None]).squeeze(1)
        rows: list[dict[str, Any]] = []
        maps: dict[str, Tensor] = {}
        for method, metrics in zip(self.methods, self.metrics, strict=True):
            scores = torch.full((len(keep), len(metrics)), torch.nan, device=self.device)
            if keep.any():
                images = batch["image"][keep]
                found = method(self.network, images, targets[keep])
                maps[method.title] = found
                evaluation = MapEvaluation(
                    self.network,
                    images,
                    targets[keep],
                    found,
                    method,
                    masks=batch["mask"][keep] if "mask" in batch else None,
                    index=batch["index"][keep],
                    clean_confidence=confidence[keep],
                    **self.road_options,
                )
                for metric in metrics:
                    metric.update(evaluation)
                scores[keep] = torch.stack([metric.per_image(evaluation) for metric in metrics], 1)
            for metric in metrics:
                metric.skip(int((~keep).sum()))
            rows += _rows(method, batch, predicted, targets, keep, dict(zip(self.names, scores.T, strict=True)))
        rank = self.trainer.global_rank
        self.results.add_rows(f"rank{rank:03d}-{batch_idx:06d}", rows)
        self._keep_maps(batch, keep, maps)

    def on_test_epoch_end(self) -> None:
        """Merge what all processes wrote; write summary and figure; log them."""
        accuracy = float(self.accuracy.compute())
        rows = [
            SummaryRow(method, name, metric.summary())
            for method, metrics in zip(self.methods, self.metrics, strict=True)
            for name, metric in zip(self.names, metrics, strict=True)
        ]
        self.trainer.strategy.barrier()
        if self.trainer.is_global_zero:
            heading = self._heading(rows[0].summary.skipped, accuracy)
            write_report(self.results, rows, heading, self.figure_images, self.trainer.loggers)

    def _heading(self, skipped: int, accuracy: float) -> str:
        count = len(self.trainer.test_dataloaders.dataset)  # type: ignore[union-attr]
        which = f"{skipped} misclassified ones skipped" if self.only_correct else "all of them scored"
        shares = ", ".join(f"{share:g}" for share in self.road_options["percentiles"])
        noise = self.road_options["noise"]
        return (
            f"{count} images, accuracy {accuracy:.1%}, {which}; the {self.target} class explained; mean ± std of the "
            f"per-image scores. ROAD: mean over {shares}% of LeRF minus MoRF, not halved, noise {noise:g}."
        )

    def _keep_maps(self, batch: dict[str, Tensor], rows: Tensor, maps: dict[str, Tensor]) -> None:
        """Keep the first images of this process for the figure."""
        transform = getattr(getattr(self.trainer, "datamodule", None), "transform", None)
        classes = getattr(getattr(self.trainer, "datamodule", None), "classes", None)
        for place, i in enumerate(rows.nonzero().flatten().tolist()):
            if self.shown == self.figure_images:
                return
            self.shown += 1
            image, label = batch["image"][i], int(batch["label"][i])
            content = {
                "image": (transform.denormalise(image) if transform else image).cpu(),
                "name": str(classes[label] if classes else label),
                "maps": {name: found[place].cpu() for name, found in maps.items()},
            }
            if "mask" in batch:
                content["mask"] = batch["mask"][i].cpu()
            self.results.add_maps(int(batch["index"][i]), content)


def _rows(
    method: AttributionMethod,
    batch: dict[str, Tensor],
    predicted: Tensor,
    targets: Tensor,
    keep: Tensor,
    scores: dict[str, Tensor],
) -> list[dict[str, Any]]:
    """One row an image: what names it, what was explained, and its scores."""
    found = {"label": batch["label"], "predicted": predicted, "target": targets, "skipped": ~keep, **scores}
    columns = {name: values.tolist() for name, values in found.items()}
    return [
        {"index": index, **method_columns(method), **{name: values[i] for name, values in columns.items()}}
        for i, index in enumerate(batch["index"].tolist())
    ]
