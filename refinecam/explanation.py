"""One picture, or maps of any library: from an image to maps, overlays and scores, in one call."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from timm.data import resolve_data_config
from torch import Tensor, nn

from refinecam.attribution import AttributionMethod, parse_methods
from refinecam.attribution.method import resize
from refinecam.attribution.probing import USUAL_SIDE, described_input, usual_image
from refinecam.core.calls import check_titles
from refinecam.core.errors import InputError
from refinecam.core.running import Method, Targets, as_targets, bare, eval_mode, first_logits
from refinecam.data import JointTransform
from refinecam.data.images.dataset import cut_of, image_tensor
from refinecam.data.images.listing import imagenet_classes
from refinecam.data.pictures import open_rgb, to_rgb
from refinecam.metrics import MapEvaluation, parse_scores, usual_scores
from refinecam.metrics.evaluation import Confidence, probabilities
from refinecam.visualization import overlay

TOP = 5
DEFAULT_METHODS = "LayerCAM(activations='rectified'), RefineCAM(LayerCAM(activations='rectified'))"
"""What refines best where stages do not end in a ReLU; after one it is LayerCAM as published."""
IMAGENET_SIZE = 1000


@dataclass(frozen=True)
class Explanation:
    """Why a network sees a class in a picture.

    Attributes:
        picture: RGB, uint8, shape (H, W, 3), as it was given.
        target: the class that is explained.
        name: its name, or its number.
        top: the most probable classes: number, name and probability of each.
        maps: for each method's title a map, float32, shape (H, W), in [0, 1], at the picture's own resolution.
        scores: a row for each method, a column for each score; empty where no scores were asked for.
    """

    picture: np.ndarray
    target: int
    name: str
    top: list[tuple[int, str, float]]
    maps: dict[str, np.ndarray]
    scores: pd.DataFrame

    @property
    def map(self) -> np.ndarray:
        """The last method's map."""
        return self.maps[list(self.maps)[-1]]

    @property
    def overlay(self) -> Image.Image:
        """The last method's map over the picture."""
        return self.overlay_of(list(self.maps)[-1])

    def overlay_of(self, method: str) -> Image.Image:
        """A method's map over the picture, at the picture's own resolution."""
        return Image.fromarray(overlay(self.picture, self.maps[method]))


def explain(
    model: nn.Module,
    image: str | Path | Image.Image | np.ndarray | Tensor,
    target: int | str | None = None,
    methods: str | AttributionMethod | Sequence[str | AttributionMethod] = DEFAULT_METHODS,
    scores: str | None = "",
    classes: Sequence[str] = (),
    transform: JointTransform | None = None,
    crop: bool = False,
    top: int = TOP,
    confidence: Confidence = "softmax",
) -> Explanation:
    """Explain what a network sees in a picture.

    Args:
        model: classifier, images to logits. Left as it was.
        image: a file, a Pillow image, an array (H, W, 3) of uint8, or a normalized tensor (3, H, W) or (1, 3, H, W),
            which is taken as it is.
        target: class to explain, by number or name; None for the predicted one.
        methods: attribution methods, or as one writes them; LayerCAM of rectified activations and its refined form.
        scores: scores without ground truth, as one writes them; "" for the usual ones, None for none.
        classes: names of the classes; ImageNet's where the network has 1000 and no names are given.
        transform: to the network's input; None for the one that a timm network describes, or else ImageNet's.
        crop: explain the center that the network's evaluation sees; otherwise the whole picture, resized to its input.
        top: number of most probable classes to name.
        confidence: of a class, ``"softmax"`` among all, or ``"sigmoid"`` for a network with several labels.

    Raises:
        InputError: if the picture cannot be read, or an argument does not fit.

    Example:
        >>> import timm
        >>> explanation = explain(timm.create_model("resnet18"), Image.new("RGB", (40, 30)), scores=None)
        >>> explanation.map.shape, explanation.overlay.size
        ((30, 40), (40, 30))
    """
    transform = transform or transform_of(model)
    if not isinstance(transform, JointTransform):
        raise InputError(f"transform: expected a refinecam.data.JointTransform, got a {type(transform).__name__}")
    if isinstance(image, np.ndarray):
        image = _from_array(image)
    if isinstance(image, Tensor):
        inputs = image[None] if image.ndim == 3 else image
        shown = _colors(inputs, transform)
        box: tuple[int, int, int, int] | None = None
    else:
        opened = to_rgb(image) if isinstance(image, Image.Image) else open_rgb(image, "image", "give another file")
        inputs = image_tensor(opened, transform, crop)[None].to(usual_image(model))
        shown, box = np.array(opened), cut_of(opened.size, transform) if crop else None
    if len(inputs) != 1:
        raise InputError(f"image: expected one, got a tensor {tuple(inputs.shape)}; take score for several")
    with eval_mode(model), torch.no_grad():
        logits = first_logits(model, inputs, as_targets(model, inputs, 0))
    names = names_of(classes, logits.shape[1])
    most = top_classes(logits, names, top, confidence)
    number = most[0][0] if target is None else class_number(target, names, logits.shape[1])
    known = _parsed(methods)
    maps = {method.title: method(model, inputs, number) for method in known}
    rows = pd.DataFrame()
    if scores is not None:
        again = {method.title: method for method in known}
        rows = score(model, inputs, number, maps, again, scores=scores, confidence=confidence)
        rows = rows.drop(columns="image").set_index("method")
    own = {title: _at_picture(result, shown.shape[:2], box) for title, result in maps.items()}
    return Explanation(shown, number, names[number] if names else str(number), most, own, rows)


def score(
    model: nn.Module,
    images: Tensor,
    targets: Targets,
    maps: Tensor | np.ndarray | Mapping[str, Tensor | np.ndarray],
    method: Method | Mapping[str, Method] | None = None,
    masks: Tensor | np.ndarray | None = None,
    scores: str = "",
    confidence: Confidence = "softmax",
) -> pd.DataFrame:
    """Score maps of any library.

    Args:
        model: classifier, images to logits.
        images: normalized images, shape (N, C, H, W).
        targets: explained classes; one for each image, one for all, or None for the predicted ones.
        maps: attribution maps, (N, 1, H, W) or (N, H, W), in [0, 1], or several by name.
        method: what made them, called with model, images and targets, by name where maps are; without it Coherency,
            ADCC and ARCC, which ask it again, are left out.
        masks: ground truth, shape (N, 1, H, W) or (N, H, W), 0 and 1: adds the scores that compare with it.
        scores: as one writes them; "" for the usual ones.
        confidence: of the targets, ``"softmax"`` among all classes, or ``"sigmoid"`` for a network with several labels.

    Returns:
        A row for each image and name: columns image (its place), method, and one for each score.

    Raises:
        InputError: if something does not fit.
    """
    named = maps if isinstance(maps, Mapping) else {"maps": maps}
    if method is not None and not isinstance(method, Mapping) and len(named) > 1:
        raise InputError("method: with several maps say what made each, {name: method}")
    again = method if isinstance(method, Mapping) else dict.fromkeys(named, method)
    if unknown := again.keys() - named.keys():
        raise InputError(f"method: there are no maps named {', '.join(unknown)}; there are {', '.join(named)}")
    if masks is not None:
        masks = torch.as_tensor(masks).to(images)
        masks = masks.unsqueeze(1) if masks.ndim == 3 else masks
    targets = as_targets(model, images, targets)
    tables: list[pd.DataFrame] = []
    clean: Tensor | None = None
    for name, result in named.items():
        own = torch.as_tensor(result)
        own = own.unsqueeze(1) if own.ndim == 3 else own
        evaluation = MapEvaluation(
            *(model, images, targets, own.to(images.device), again.get(name)),
            masks=masks,
            clean_confidence=clean,
            confidence=confidence,
        )
        chosen = parse_scores(scores or usual_scores(masks is not None, again.get(name) is not None))
        columns: dict[str, Any] = {"image": range(len(images)), "method": name}
        columns |= {metric.title: metric.per_image(evaluation).tolist() for metric in chosen}
        tables.append(pd.DataFrame(columns))
        clean = vars(evaluation).get("clean_confidence", clean)  # if a score asked for it
    return pd.concat(tables, ignore_index=True)


def transform_of(model: nn.Module) -> JointTransform:
    """The evaluation transform that a timm network, also in a wrapper, describes; ImageNet's usual one for others."""
    model = bare(model)
    config = described_input(model) or {"input_size": (3, USUAL_SIDE, USUAL_SIDE)}
    return JointTransform.of_config(resolve_data_config(pretrained_cfg=dict(config)), usual_image(model).shape[-1])


def names_of(classes: Sequence[str], count: int) -> Sequence[str]:
    """Names of the classes, as far as they are known."""
    if classes and len(classes) != count:
        raise InputError(f"classes: the network has {count}, got {len(classes)} names")
    return classes or (list(imagenet_classes().values()) if count == IMAGENET_SIZE else [])


def class_number(target: int | str, names: Sequence[str], count: int) -> int:
    """The number of a class that is given by number or name.

    Raises:
        InputError: if there is no such class, or several.
    """
    if not isinstance(target, str) or target.isdecimal():
        if int(target) < count:
            return int(target)
        raise InputError(f"target: class {target} is not one of the network's {count} classes")
    plain = [name.lower() for name in names]
    wanted = target.lower().replace("_", " ")
    if count == IMAGENET_SIZE and target in imagenet_classes():
        return list(imagenet_classes()).index(target)
    fitting = [i for i, name in enumerate(plain) if name == wanted] or [i for i, n in enumerate(plain) if wanted in n]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        known = ", ".join(f"{i} {names[i]}" for i in fitting[:6])
        raise InputError(f"target: {len(fitting)} classes have {target!r} in their names: {known}; give a number")
    close = ", ".join(difflib.get_close_matches(wanted, plain, n=3)) or "none"
    raise InputError(f"target: no class is named {target!r}; close to it: {close}")


def top_classes(
    logits: Tensor, names: Sequence[str], count: int = TOP, confidence: Confidence = "softmax"
) -> list[tuple[int, str, float]]:
    """The most probable classes of one image: number, name and probability."""
    values, numbers = probabilities(logits[:1], confidence)[0].topk(min(count, logits.shape[1]))
    return [(i, names[i] if names else str(i), p) for i, p in zip(numbers.tolist(), values.tolist(), strict=True)]


def _parsed(methods: str | AttributionMethod | Sequence[str | AttributionMethod]) -> list[AttributionMethod]:
    given = [methods] if isinstance(methods, str | AttributionMethod) else list(methods)
    wrong = [value for value in given if not isinstance(value, str | AttributionMethod)]
    if wrong or not given:
        raise InputError(
            f"methods: expected at least one, such as LayerCAM() or 'RefineCAM(LayerCAM)', got {wrong or given!r:.80}"
        )
    found = [m for value in given for m in (parse_methods(value) if isinstance(value, str) else [value])]
    check_titles(found, "methods")
    return found


def _from_array(image: np.ndarray) -> Image.Image:
    if image.dtype != np.uint8 or image.ndim not in (2, 3):
        raise InputError(f"image: expected an array of uint8 (H, W, 3), got {image.dtype} {image.shape}")
    return Image.fromarray(image)


def _colors(inputs: Tensor, transform: JointTransform) -> np.ndarray:
    colors = transform.denormalize(inputs[0].float().cpu()).permute(1, 2, 0).numpy()
    return np.round(255 * colors).astype(np.uint8)


def _at_picture(result: Tensor, size: tuple[int, ...], box: tuple[int, int, int, int] | None) -> np.ndarray:
    """A map (1, 1, S, S) at the picture's resolution: of all of it, or of the part (left, top, right, bottom)."""
    left, top, right, bottom = box or (0, 0, size[1], size[0])
    whole = np.zeros(size, np.float32)
    whole[top:bottom, left:right] = resize(result, (bottom - top, right - left))[0, 0].clamp(0, 1).cpu().numpy()
    return whole
