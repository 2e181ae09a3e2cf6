"""The LightningModule that scores attribution methods over a test set."""

from pathlib import Path
from typing import Any, Literal

import lightning as L
import pandas as pd
import torch
from torch import Tensor

from refinecam.attribution import AttributionMethod, parse_methods
from refinecam.core.errors import InputError, check_counts, check_not_negative, check_range
from refinecam.data.shapes.drawing import STYLES
from refinecam.data.transforms import shown_colors
from refinecam.evaluation.accuracy import accuracy_rows, prediction_rows
from refinecam.evaluation.birds import PER_IMAGE, BirdScorer
from refinecam.evaluation.report import SummaryRow, method_columns, write_report
from refinecam.evaluation.results import ResultsFolder
from refinecam.evaluation.scores import GROUND_TRUTH, LABEL_FREE, ON_REQUEST, SCORES
from refinecam.metrics import Deletion, Insertion, MapEvaluation, PerImageMean
from refinecam.metrics.functional import PERCENTILES, check_percentiles
from refinecam.metrics.functional.perturbation import Fill
from refinecam.metrics.functional.ranking import Ranking, check_ranking
from refinecam.models import build_network, check_colors, create_backbone, read_weights
from refinecam.models.checkpoints import SHIPPED


class Evaluator(L.LightningModule):
    """Every score of every method on every test image that the classifier gets right, and how often it does.

    Run it with ``Trainer(inference_mode=False).test``: maps need gradients. FunnyBirds' own scores come with data that
    has its interventions, and count misclassified images too, as their authors do.

    Args:
        backbone: timm name of the network; null for the checkpoint's.
        checkpoint: weights written by train.py, or a shipped name such as ``shapes-resnet18``; null for timm's ImageNet
            weights.
        methods: attribution methods as one writes them in Python, separated by commas or as a list: ``GradCAM``,
            ``LayerCAM(stage=0)``, ``RefineCAM(LayerCAM)``, ``RandomCAM``. With none, the classifier alone is evaluated.
        scores: names of the scores; null for all that the data allows. With ground truth: ``cosine_similarity``,
            ``pointing_game``, ``mass_accuracy``, ``roc_auc``, ``iou``; without: ``average_drop``,
            ``increase_in_confidence``, ``complexity``, ``coherency``, ``adcc``, ``road``, ``arcc``. ``insertion`` and
            ``deletion``, which cost more than all others together, come only by name.
        target: class to explain: the true ``label`` or the ``predicted`` one.
        only_correct: score only images that are classified correctly; the others are counted as skipped.
        output: folder for the per-image tables, the summary and the figure.
        image_size: side of the images, where not the checkpoint's or the backbone's own.
        percentiles: shares of pixels, in percent, that ROAD takes away.
        noise: standard deviation of ROAD's noise, in normalized units.
        seed: seed of ROAD's draws.
        ranking: ``exact`` shares, or ``percentile``, grad-cam's rule, for comparisons with it.
        steps: of insertion and deletion.
        fill: what stands where insertion and deletion have no pixels: the ``mean`` color, a ``blur`` or ``imputed``
            values; null for a blur in insertion and the mean in deletion.
        chunk: images that go through the network at once for a score; null for what suits the device.
        figure_images: images shown in the figure.
    """

    def __init__(
        self,
        backbone: str | None = None,
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
        ranking: Ranking = "exact",
        steps: int = 20,
        fill: Fill | None = None,
        chunk: int | None = None,
        figure_images: int = 6,
    ) -> None:
        super().__init__()
        self.methods = parse_methods(methods)
        check_percentiles(percentiles)
        check_ranking(ranking)
        check_counts({"chunk": chunk}, steps=steps)
        check_range(0, noise=noise)
        check_not_negative(seed=seed, figure_images=figure_images)
        if scores is not None and not len(scores) == len(set(scores)) > 0:
            raise InputError(f"scores: expected at least one, each once, or null for the usual ones, got {scores}")
        unknown = [name for name in scores or [] if name not in SCORES]
        if unknown:
            raise InputError(f"scores: there is no {unknown[0]!r}; there are {', '.join(SCORES)}")
        self.target, self.only_correct, self.figure_images = target, only_correct, figure_images
        self.road_options: dict[str, Any] = {
            "percentiles": percentiles,
            "noise": noise,
            "seed": seed,
            "ranking": ranking,
            "chunk": chunk,
        }
        self.curve_options: dict[str, Any] = {"steps": steps, **({"fill": fill} if fill else {})}
        self.results = ResultsFolder(output)
        if checkpoint is not None:
            weights = read_weights(checkpoint, backbone, image_size)
            self.checkpoint: Path | None = weights.path
            self.backbone, self.image_size = weights.backbone, weights.image_size
            self.normalize: bool | None = weights.normalize
            self.network = build_network(weights)
        elif backbone is not None:
            self.backbone, self.image_size, self.normalize, self.checkpoint = backbone, image_size, None, None
            self.network = create_backbone(backbone, pretrained=True, image_size=image_size)
        else:
            raise InputError("checkpoint: name trained weights, or a --model.backbone for its ImageNet weights")
        for method in self.methods:
            method.layers(self.network)  # a stage that is not there is found before the data are prepared
        self.network.to(memory_format=torch.channels_last)  # in which convolutions are fastest, with images alike
        self.scores, self.names = scores, list(scores or [])
        self.metrics: list[list[PerImageMean]] = []
        self.birds: BirdScorer | None = None
        self.shown = 0
        self.written: list[Path] = []

    def setup(self, stage: str) -> None:
        """Refuse, before anything is written, what would fail later: other classes or colors, no gradients."""
        if self.methods and getattr(self.trainer.test_loop, "inference_mode", False):
            raise InputError(
                "trainer: maps need gradients; use --trainer.inference_mode false or Trainer(inference_mode=False)"
            )
        classes = getattr(self._data, "classes", None)
        known = getattr(self.network, "num_classes", None)
        if classes is not None and known is not None and len(classes) != known:
            raise InputError(
                f"checkpoint: the network tells {known} classes apart, the data has {len(classes)}; "
                "use --model.checkpoint with one that was trained on this data"
            )
        if self.normalize is not None:
            check_colors("checkpoint", self.checkpoint, self.normalize, self._data)

    @property
    def _data(self) -> Any:
        """The data module, if the trainer has one: names of classes and bands, colors of images."""
        return getattr(self.trainer, "datamodule", None)

    def on_test_start(self) -> None:
        """Prepare the output folder and the metrics."""
        if self.trainer.is_global_zero:
            self.results.start()
        self.trainer.strategy.barrier()
        self.metrics, self.birds = [], None
        self.shown = 0

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Explain and score one batch by every method."""
        if not self.metrics:
            self.names = self.scores or [*(GROUND_TRUTH if "mask" in batch else ()), *LABEL_FREE]
            self.metrics = [[self._metric(name) for name in self.names] for _ in self.methods]
            if "subsets" in batch and self.methods:
                if not hasattr(self._data, "bird_classes"):
                    raise InputError("datamodule: interventions need a FunnyBirdsDataModule, which knows the classes")
                chunk = self.road_options["chunk"]
                self.birds = BirdScorer(self.methods, self._data.bird_classes, self.device, chunk)
        batch["image"] = batch["image"].contiguous(memory_format=torch.channels_last)
        logits = self.network(batch["image"])
        predicted = logits.argmax(1)
        correct = predicted == batch["label"]
        keep = correct if self.only_correct else torch.ones_like(correct)
        targets = batch["label"] if self.target == "label" else predicted
        confidence = logits.float().softmax(1).gather(1, targets[:, None]).squeeze(1)
        controls = {name: self.network(images).argmax(1) for name, images in batch.get("controls", {}).items()}
        part = f"rank{self.trainer.global_rank:03d}-{batch_idx:06d}"
        bands, styles = getattr(self._data, "bands", ()), STYLES if "style" in batch else ()
        self.results.add_rows("predictions", part, prediction_rows(batch, predicted, controls, bands, styles))
        rows: list[dict[str, Any]] = []
        bird_rows: list[dict[str, Any]] = []
        maps: dict[str, Tensor] = {}
        if self.birds is not None:
            self.birds.start(self.network, batch)
        for place, (method, metrics) in enumerate(zip(self.methods, self.metrics, strict=True)):
            scores = torch.full((len(keep), len(metrics)), torch.nan, dtype=torch.float32, device=self.device)
            of_birds: dict[str, Tensor] = {}
            if self.birds is not None:
                every, of_birds = self.birds.score(place, self.target)
                bird_rows += self.birds.rows(place, batch["index"], of_birds)
            if keep.any():
                images = batch["image"][keep]
                found = method(self.network, images, targets[keep]) if self.birds is None else every[keep]
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
            columns = dict(zip(self.names, scores.T, strict=True))
            columns |= {name: of_birds[name] for name in PER_IMAGE if name in of_birds}
            rows += _rows(method, batch, predicted, targets, keep, columns)
        for table, found_rows in (("per_image", rows), ("funnybirds", bird_rows)):
            if found_rows:
                self.results.add_rows(table, part, found_rows)
        self._keep_maps(batch, keep, maps)

    def _metric(self, name: str) -> PerImageMean:
        return SCORES[name](**(self.curve_options if name in ON_REQUEST else {})).to(self.device)

    def on_test_epoch_end(self) -> None:
        """Merge what all processes wrote; write summary and figure; log them."""
        rows = [
            SummaryRow(method, name, metric.summary())
            for method, metrics in zip(self.methods, self.metrics, strict=True)
            for name, metric in zip(self.names, metrics, strict=True)
        ]
        birds = self.birds.report() if self.birds is not None else None
        self.trainer.strategy.barrier()
        if self.trainer.is_global_zero:
            predictions = self.results.merge("predictions")
            classes = getattr(self._data, "classes", None) or range(1 + int(predictions["label"].max()))
            expected = getattr(self._data, "expected_of_controls", {})
            least = getattr(self._data, "least_accuracy", None)
            found = accuracy_rows(predictions, [str(name) for name in classes], expected, least)
            heading = f"{self._evaluated()}: {len(predictions)} images, accuracy {_accuracy(predictions):.1%}"
            if rows:
                heading += f", {self._scoring(rows[0].summary.skipped)}"
            loggers = self.trainer.loggers
            self.written = write_report(self.results, rows, found, heading, self.figure_images, loggers, birds)

    def _evaluated(self) -> str:
        """Of which network on which data the tables are."""
        path = self.checkpoint
        weights = (
            "ImageNet" if path is None else path.stem if path.parent == SHIPPED else f"{path.parent.name}/{path.name}"
        )
        data = f", {getattr(self._data, 'title', type(self._data).__name__)}" if self._data is not None else ""
        return f"{self.backbone} ({weights}){data}"

    def _scoring(self, skipped: int) -> str:
        which = f"{skipped} misclassified ones skipped" if self.only_correct else "all of them scored"
        shares = ", ".join(f"{share:g}" for share in self.road_options["percentiles"])
        noise = self.road_options["noise"]
        rule = "" if self.road_options["ranking"] == "exact" else ", by grad-cam's percentile rule"
        curves = [metric for metric in self.metrics[0] if isinstance(metric, Insertion | Deletion)]
        also = "".join(
            f" {type(metric).__name__}: {metric.steps} steps, {metric.fill} where pixels are missing."
            for metric in curves
        )
        return (
            f"{which}; the {self.target} class explained; mean ± std of the "
            f"per-image scores. ROAD: mean over {shares}% of LeRF minus MoRF, not halved, noise {noise:g}{rule}.{also}"
        )

    def _keep_maps(self, batch: dict[str, Tensor], rows: Tensor, maps: dict[str, Tensor]) -> None:
        """Keep the first images of this process for the figure."""
        classes = getattr(self._data, "classes", None)
        for place, i in enumerate(rows.nonzero().flatten().tolist()):
            if self.shown == self.figure_images:
                return
            self.shown += 1
            image, label = batch["image"][i], int(batch["label"][i])
            content = {
                "image": shown_colors(self._data, image).cpu(),
                "name": str(classes[label] if classes else label),
                "maps": {name: found[place].cpu() for name, found in maps.items()},
            }
            if "mask" in batch:
                content["mask"] = batch["mask"][i].cpu()
            self.results.add_maps(int(batch["index"][i]), content)


def _accuracy(predictions: pd.DataFrame) -> float:
    return float((predictions["label"] == predictions["predicted"]).mean())


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
