"""The LightningModule that scores attribution methods over a test set."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from torch import Tensor, nn

from refinecam.attribution import parse_methods
from refinecam.core.errors import InputError, check_counts, check_not_negative
from refinecam.core.running import fast_forward, first_logits
from refinecam.data import OwnScorer, data_of
from refinecam.data.sampling import check_no_image_twice
from refinecam.evaluation.accuracy import prediction_rows
from refinecam.evaluation.identity import versions, weights_digest
from refinecam.evaluation.report import report
from refinecam.evaluation.rows import check_finite, feed, key_of, named, scores_in, so_far, spread
from refinecam.evaluation.store import Results
from refinecam.evaluation.tensorboard import HEADLINES
from refinecam.metrics import MapEvaluation, PerImageMean, parse_scores, usual_scores
from refinecam.metrics.evaluation import Confidence, confidence_of
from refinecam.models import check_colors
from refinecam.models.choice import choose_network

LOG_SECONDS = 30


class _Release(L.Callback):
    """Lets others into the folder after an error, when Lightning does not call ``teardown``."""

    def __init__(self, results: Results) -> None:
        self.results = results

    def on_exception(self, trainer: L.Trainer, module: L.LightningModule, exception: BaseException) -> None:
        self.results.close()


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
        network: a network of your own instead of a backbone, ``package.module.function`` that returns it;
            ``checkpoint`` may be a state dict of it.
        methods: attribution methods as one writes them in Python, separated by commas or as a list: ``GradCAM``,
            ``LayerCAM(stage=0)``, ``RefineCAM(LayerCAM)``, ``RandomCAM``. With none, the classifier alone is evaluated.
        scores: scores, likewise, with their options: ``arcc, road(percentiles=(10, 50))``; null for all that the data
            allow. With ground truth: ``cosine_similarity``, ``iou``, ``mass_accuracy``, ``pointing_game``, ``roc_auc``;
            without: ``adcc``, ``arcc``, ``average_drop``, ``coherency``, ``complexity``, ``increase_in_confidence``,
            ``road``. ``insertion`` and ``deletion`` cost more than all others together and come only by name.
        target: class to explain: the true ``label`` or the ``predicted`` one.
        only_correct: score only images that are classified correctly; the others are counted as skipped.
        output: folder for tables, summary and figure. The same evaluation goes on with what is there, also with
            methods, scores or, of shapes, images added.
        overwrite: replace another evaluation in this folder.
        image_size: side of the images, where not the checkpoint's or the backbone's own.
        seed: seed of what scores draw: ROAD's noise, and the order among equal pixels.
        chunk: images that go through the network at once for a score; null for what suits the device.
        figure_images: images shown in the figure.
        confidence: of the explained class, by ``softmax`` among all classes, or by ``sigmoid`` for a network with
            several labels.
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
        overwrite: bool = False,
        confidence: Confidence = "softmax",
    ) -> None:
        super().__init__()
        self.methods = parse_methods(methods)
        self.chosen = None if scores is None else [score.title for score in parse_scores(scores)]
        if self.chosen is not None and not self.chosen:
            raise InputError("scores: expected at least one, or null for the usual ones")
        check_counts({"chunk": chunk})
        check_not_negative(seed=seed, figure_images=figure_images)
        self.target, self.only_correct, self.figure_images = target, only_correct, figure_images
        self.seed, self.chunk, self.overwrite, self.confidence = seed, chunk, overwrite, confidence
        self.results = Results(output)
        chosen = choose_network(backbone, checkpoint, network, image_size)
        self.network, self.title, self.image_size = chosen.network, chosen.title, chosen.image_size
        self.named = {"backbone": chosen.backbone, "checkpoint": chosen.checkpoint}
        self.function = network
        self.checkpoint, self.normalize = chosen.path, chosen.normalize
        side = self.image_size
        example = None if side is None else torch.zeros(1, 3, side, side)
        for method in self.methods:  # a stage that is not there is noticed before the data are prepared
            method.layers(self.network, example)
        self.network.to(memory_format=torch.channels_last)  # in which convolutions are fastest, with images alike
        self.metrics = nn.ModuleList()
        self.own: OwnScorer | None = None
        self.kept = 0
        self.logged = time.monotonic()
        self.unread: list[dict[str, Any]] = []
        self.written: list[Path] = []

    def setup(self, stage: str) -> None:
        """Refuse, before anything is written, what would fail later: other classes or colors, no gradients."""
        if self.methods and getattr(self.trainer.test_loop, "inference_mode", False):
            raise InputError("trainer: maps need gradients; use Trainer(inference_mode=False)")
        if (known := getattr(self.network, "num_classes", None)) is not None:
            self._check_count(known)
        if self.normalize is not None:
            check_colors("checkpoint", self.checkpoint, self.normalize, data_of(self.trainer).normalized)

    def on_test_start(self) -> None:
        """Prepare for the first batch, which decides which scores there are.

        Raises:
            InputError: if the loader would show an image on two processes.
        """
        check_no_image_twice(self.trainer.test_dataloaders)
        self.metrics, self.own, self.kept, self.unread = nn.ModuleList(), None, 0, []

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Classify, explain and score what earlier runs have not, and write its rows."""
        self.unread += batch.get("skipped", [])
        if "image" not in batch:  # no file of it could be read
            return
        if not self.metrics:
            self._start(batch)
            self._check_classes(batch["image"])
        indices = batch["index"].tolist()
        titles = [metric.title for metric in scores_in(self.metrics[0])]
        earlier = [[self.earlier.row(index, key_of(method), titles) for index in indices] for method in self.methods]
        if self._is_done(indices, earlier):
            for of_method, found in zip(self.metrics, earlier, strict=False):
                feed(of_method, found)
            return
        batch["image"] = batch["image"].contiguous(memory_format=torch.channels_last)
        logits = fast_forward(self.network, batch["image"])
        check_finite(logits, batch)
        predicted = logits.argmax(1)
        targets = batch["label"] if self.target == "label" else predicted
        keep = (predicted == batch["label"]) | (not self.only_correct)
        shown = self._shown(indices, keep)
        confidence = confidence_of(logits, targets, self.confidence)
        controls = {
            name: fast_forward(self.network, images).argmax(1) for name, images in batch.get("controls", {}).items()
        }
        rows, own_rows, maps = [], [], {}
        if self.own is not None:
            self.own.start(self.network, batch)
        known = {"label": batch["label"], "predicted": predicted, "target": targets, "skipped": ~keep}
        for number, (method, of_method, found) in enumerate(zip(self.methods, self.metrics, earlier, strict=False)):
            self._show(f"{number} of {len(self.methods)} methods: {method.title}{so_far(of_method)}")
            missing = torch.tensor([row is None for row in found], device=self.device)
            columns, asked = dict(known), missing | shown
            if self.own is not None and asked.any():
                own = self.own.score(method, targets)
                own_rows += [
                    {**named(method, i), **row} for i, row, new in zip(indices, own.rows, missing, strict=True) if new
                ]
                maps[method.title] = own.maps
                columns |= own.columns
            elif (asked & keep).any():
                asked = asked & keep
                maps[method.title] = spread(method(self.network, batch["image"][asked], targets[asked]), asked)
            scored = keep & missing
            columns |= self._score(method, scores_in(of_method), batch, targets, confidence, scored, maps)
            values = {name: column.tolist() for name, column in columns.items()}
            new_rows = [
                {**named(method, index), **{name: column[i] for name, column in values.items()}}
                for i, index in enumerate(indices)
            ]
            rows += [row for row, new in zip(new_rows, missing, strict=True) if new]
            feed(of_method, [old or new for old, new in zip(found, new_rows, strict=True)])
        part = f"rank{self.trainer.global_rank:03d}-{batch_idx:06d}"
        described = data_of(self.trainer).describe(batch)
        self.results.add("predictions", part, prediction_rows(batch, predicted, controls, described))
        if self.own is not None:
            self.results.add(self.own.table, part, own_rows)
        self.results.add("per_image", part, rows)  # the last, so that the others are there where it is
        self._keep_maps(batch, shown, maps)
        self._log_so_far(batch_idx)

    def _is_done(self, indices: Sequence[int], earlier: Sequence[Sequence[dict[str, Any] | None]]) -> bool:
        """Whether earlier runs have all of a batch: predictions, rows, and maps for the figure."""
        if not set(indices) <= self.earlier.predicted or any(row is None for found in earlier for row in found):
            return False
        if not earlier:
            return True
        keep = torch.tensor([not row["skipped"] for row in earlier[0] if row is not None])
        kept = self.kept
        done = not self._shown(indices, keep).any()
        self.kept = self.kept if done else kept
        return done

    def _shown(self, indices: Sequence[int], keep: Tensor) -> Tensor:
        """Which images the figure still needs, of the first ones that are kept on this process."""
        shown = torch.zeros_like(keep)
        for i in keep.nonzero().flatten().tolist() if self.methods else []:
            if self.kept < self.figure_images:
                self.kept += 1
                shown[i] = not self.results.has_maps(indices[i], [method.title for method in self.methods])
        return shown

    def _start(self, batch: dict[str, Any]) -> None:
        """Choose the scores by what the processes' first batches have, and say in the folder what is evaluated."""
        masks = self.trainer.strategy.reduce(torch.tensor(float("mask" in batch), device=self.device), reduce_op="sum")
        titles = self.chosen or usual_scores(bool(masks))
        self.metrics = nn.ModuleList(
            nn.ModuleList(parse_scores(titles)).to(self.device) for _ in range(max(1, len(self.methods)))
        )
        data = data_of(self.trainer)
        self.own = data.own_scorer(batch, self.chunk) if self.methods else None
        if self.trainer.is_global_zero:
            about = {
                "identity": self._identity(),
                "methods": [list(key_of(method)) for method in self.methods],
                "calls": [repr(method) for method in self.methods],
                "title": f"{self.title}, {data.title}",
                "columns": {**self.named, "data": data.title},
                "classes": [str(name) for name in data.classes],
                "expected_of_controls": dict(data.expected_of_controls),
                "least_accuracy": data.least_accuracy,
                "scores": [
                    {"name": s.title, "needs_masks": s.needs_masks, "note": s.note} for s in parse_scores(titles)
                ],
                "target": self.target,
                "only_correct": self.only_correct,
            }
            self.results.start(about, self.overwrite)
        self.trainer.strategy.barrier()
        self.earlier = self.results.earlier()

    def _identity(self) -> dict[str, Any]:
        """What makes the numbers, beside the methods and the scores."""
        return {
            "weights": weights_digest(self.network),
            **({} if self.function is None else {"network": self.function}),
            "data": data_of(self.trainer).identity(),
            "own scores": self.own.table if self.own is not None else "",
            "target": self.target,
            "only_correct": self.only_correct,
            "seed": self.seed,
            **({} if self.confidence == "softmax" else {"confidence": self.confidence}),
            "precision": str(self.trainer.precision),
            "versions": versions(),
        }

    def _log_so_far(self, step: int) -> None:
        """Log what this process's means are so far, now and then, so that one sees what the run will be worth."""
        if time.monotonic() - self.logged < LOG_SECONDS:
            return
        self.logged = time.monotonic()
        values = {
            f"so far/{metric.title}/{method.title}": float(metric.total / metric.scored)
            for method, metrics in zip(self.methods, self.metrics, strict=False)
            for metric in scores_in(metrics)
            if metric.title in HEADLINES
        }
        for logger in self.trainer.loggers:
            logger.log_metrics(values, step)

    def _check_classes(self, images: Tensor) -> None:
        """Refuse a network that does not take the images, or has other classes than the data."""
        any_class = torch.zeros(1, dtype=torch.int64, device=self.device)
        self._check_count(first_logits(self.network, images[:1], any_class).shape[1])

    def _check_count(self, count: int) -> None:
        data = data_of(self.trainer)
        wanted = len(data.classes) or data.least_classes
        if count < wanted or (data.classes and count != wanted):
            raise InputError(
                f"data: the network has {count} classes, the data have {wanted}; use one that was trained on these data"
            )

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
        scored: Tensor,
        maps: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:
        """Each score of one method's maps, (N,); NaN where an image is not to be scored or has none."""
        if not scored.any():
            return {metric.title: torch.full_like(confidence, torch.nan) for metric in metrics}
        evaluation = MapEvaluation(
            self.network,
            batch["image"][scored],
            targets[scored],
            maps[method.title][scored],
            method,
            masks=batch["mask"][scored] if "mask" in batch else None,
            index=batch["index"][scored],
            clean_confidence=confidence[scored],
            seed=self.seed,
            chunk=self.chunk,
            black=data_of(self.trainer).black,
            confidence=self.confidence,
        )
        return {metric.title: spread(metric.per_image(evaluation), scored) for metric in metrics}

    def configure_callbacks(self) -> list[L.Callback]:
        """What Lightning tells callbacks alone."""
        return [_Release(self.results)]

    def teardown(self, stage: str) -> None:
        """Let others into the folder."""
        self.results.close()

    def on_test_epoch_end(self) -> None:
        """Log what the metrics of all processes say; merge the rows that these wrote, and report."""
        if not self.metrics:  # no image was this process's, or none could be read
            self._start({})
        for method, metrics in zip(self.methods, self.metrics, strict=False):
            for metric in scores_in(metrics):
                self.log(f"{metric.title}/{method.title}", metric.compute(), logger=False, sync_dist=True)
        self.results.add("skipped", f"rank{self.trainer.global_rank:03d}", self.unread)
        self.trainer.strategy.barrier()
        if self.trainer.is_global_zero:
            self.results.merge(self.figure_images)
            written = report(self.results.folder, self.trainer.loggers)
            tables = [self.results.folder / f"{name}.parquet" for name in self.results.about["tables"]]
            self.written = [*tables, *written]

    def _keep_maps(self, batch: dict[str, Tensor], shown: Tensor, maps: dict[str, Tensor]) -> None:
        """Keep images for the figure."""
        data = data_of(self.trainer)
        for i in shown.nonzero().flatten().tolist():
            label = int(batch["label"][i])
            content = {"image": data.colors(batch["image"][i]), **{f"map: {name}": m[i] for name, m in maps.items()}}
            if "mask" in batch:
                content["mask"] = batch["mask"][i]
            arrays: dict[str, Any] = {name: value.half().cpu().numpy() for name, value in content.items()}
            arrays["name"] = str(data.classes[label] if data.classes else label)
            self.results.keep(int(batch["index"][i]), arrays)
