"""The LightningModule that scores attribution methods over a test set."""

from typing import Any, Literal
from warnings import warn

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.figure import Figure
from torch import Tensor
from torchmetrics import MeanMetric

from refinecam.attribution import AttributionMethod, parse_methods
from refinecam.errors import InputError
from refinecam.evaluation.figures import overlay_figure
from refinecam.evaluation.results import ResultsFolder
from refinecam.evaluation.summary import SummaryRow, summary_markdown, summary_table
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
        percentiles: tuple[float, ...] = (20, 40, 60, 80),
        noise: float = 0.01,
        seed: int = 0,
        figure_images: int = 6,
    ) -> None:
        super().__init__()
        self.methods = _unique(parse_methods(methods))
        unknown = [name for name in scores or [] if name not in SCORES]
        if unknown:
            raise InputError(f"scores: there is no {unknown[0]!r}; there are {', '.join(SCORES)}")
        self.target, self.only_correct, self.figure_images = target, only_correct, figure_images
        self.road = {"percentiles": percentiles, "noise": noise, "seed": seed}
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
        """Refuse data of other classes than the network's."""
        classes = getattr(getattr(self.trainer, "datamodule", None), "classes", None)
        known = getattr(self.network, "num_classes", None)
        if classes is not None and known is not None and len(classes) != known:
            raise InputError(
                f"checkpoint: the network tells {known} classes apart, the data has {len(classes)}; "
                "use --model.checkpoint with one that was trained on this data"
            )

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
                maps[_title(method)] = found
                evaluation = MapEvaluation(
                    self.network,
                    images,
                    targets[keep],
                    found,
                    method,
                    masks=batch["mask"][keep] if "mask" in batch else None,
                    index=batch["index"][keep],
                    clean_confidence=confidence[keep],
                    **self.road,  # type: ignore[arg-type]
                )
                for metric in metrics:
                    metric.update(evaluation)
                scores[keep] = torch.stack([metric.per_image(evaluation) for metric in metrics], 1)
            for metric in metrics:
                metric.skip(int((~keep).sum()))
            rows += _rows(method, batch, predicted, self.names, scores)
        rank = self.trainer.global_rank
        self.results.add_rows(f"rank{rank:03d}-{batch_idx:06d}", rows)
        self._keep_maps(batch, keep, maps)

    def on_test_epoch_end(self) -> None:
        """Merge what all processes wrote; write summary and figure; log them."""
        accuracy = float(self.accuracy.compute())
        rows = [
            SummaryRow(method.name, *_where(method), name, metric.summary())
            for method, metrics in zip(self.methods, self.metrics, strict=True)
            for name, metric in zip(self.names, metrics, strict=True)
        ]
        self.trainer.strategy.barrier()
        if self.trainer.is_global_zero:
            self._write(rows, accuracy)

    def _write(self, rows: list[SummaryRow], accuracy: float) -> None:
        folder = self.results.folder
        images = self.results.merge()["index"].nunique()
        table = summary_table(rows)
        table.to_csv(folder / "summary.csv", index=False)
        skipped = f", {rows[0].summary.skipped} misclassified ones skipped" if self.only_correct else ""
        heading = f"{images} images, accuracy {accuracy:.1%}{skipped}; mean ± std of the per-image scores."
        text = summary_markdown(table, heading)
        (folder / "summary.md").write_text(text)
        for row in rows:
            if row.summary.undefined:
                title = title_of(row.method, row.stage, row.aggregator)
                warn(
                    f"{row.summary.undefined} of {images} maps of {title} have no {row.score}: constant or not finite",
                    stacklevel=2,
                )
        kept = self.results.maps(self.figure_images)
        figure = _figure(kept) if kept else None
        if figure is not None:
            figure.savefig(folder / "maps.png", dpi=150)
        for logger in self.trainer.loggers:
            logger.log_metrics({"accuracy": accuracy})
            titles = [title_of(row.method, row.stage, row.aggregator) for row in rows]
            logger.log_metrics(
                {f"{row.score}/{title}": row.summary.mean for row, title in zip(rows, titles, strict=True)}
            )
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_text("summary", text)
                if figure is not None:
                    logger.experiment.add_figure("maps", figure)
        self.results.finish()

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


def title_of(method: str, stage: str, aggregator: str) -> str:
    """Short title of a method with its stage, for figures and curves."""
    details = ", ".join(part for part in (f"stage {stage}" if stage else "", aggregator) if part)
    return f"{method}, {details}" if details else method


def _where(method: AttributionMethod) -> tuple[str, str]:
    return "" if method.stage is None else str(method.stage), method.aggregator or ""


def _title(method: AttributionMethod) -> str:
    return title_of(method.name, *_where(method))


def _unique(methods: list[AttributionMethod]) -> list[AttributionMethod]:
    titles = [_title(method) for method in methods]
    twice = {title for title in titles if titles.count(title) > 1}
    if twice or not methods:
        raise InputError(f"methods: {f'{twice.pop()!r} is there twice' if twice else 'there is none'}")
    return methods


def _rows(
    method: AttributionMethod, batch: dict[str, Tensor], predicted: Tensor, names: list[str], scores: Tensor
) -> list[dict[str, Any]]:
    stage, aggregator = _where(method)
    found = zip(batch["index"].tolist(), batch["label"].tolist(), predicted.tolist(), scores.tolist(), strict=True)
    return [
        {
            "index": index,
            "method": method.name,
            "stage": stage,
            "aggregator": aggregator,
            "label": label,
            "predicted": guess,
            **dict(zip(names, values, strict=True)),
        }
        for index, label, guess, values in found
    ]


def _figure(kept: list[dict[str, Any]]) -> Figure:
    masks = torch.stack([entry["mask"] for entry in kept]) if "mask" in kept[0] else None
    maps = {name: torch.stack([entry["maps"][name] for entry in kept]) for name in kept[0]["maps"]}
    images = torch.stack([entry["image"] for entry in kept])
    return overlay_figure(images, maps, masks, [entry["name"] for entry in kept])
