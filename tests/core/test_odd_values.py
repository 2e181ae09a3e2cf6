"""Values of a type that nobody expects are refused in one line, whatever they are given as."""

import numpy as np
import pytest
import torch

from refinecam.attribution import LIME, GradCAM, IntegratedGradients, RandomCAM, RefineCAM, ScoreCAM
from refinecam.core.errors import LONGEST, InputError
from refinecam.metrics import ROAD, MapEvaluation
from refinecam.metrics.functional import arcc, complexity, cosine_similarity, iou, noisy_linear_imputation, road

MAPS = torch.rand(5, 1, 24, 32)
ODD: dict[str, object] = {
    "text": "abc",
    "bytes": b"20",
    "negative": -3,
    "complex": 1 + 2j,
    "not a number": [float("nan")],
    "nested": [[]],
    "mapping": {"a": 1},
    "object": object(),
    "iterator": iter([20]),
    "array": np.ones((2, 2)),
    "scalar array": np.array(-20.0),
    "complex tensor": torch.ones(5, 1, 24, 32, dtype=torch.complex64),
    "whole numbers": torch.full((5, 1, 24, 32), 2),
    "sparse": MAPS.to_sparse(),
    "without values": MAPS.to("meta"),
    "quantized": torch.quantize_per_tensor(MAPS, 0.1, 0, torch.quint8),
    "list of tensors": [MAPS],
}
USES = {
    "percentiles": lambda value, *_: ROAD(percentiles=value),
    "noise": lambda value, *_: ROAD(noise=value),
    "ranking": lambda value, *_: ROAD(ranking=value),
    "seed": lambda value, *given: road(*given, MAPS, seed=value),
    "seed of the noise": lambda value, _, x, __: noisy_linear_imputation(x, MAPS > 0.5, seed=value),
    "index": lambda value, *given: MapEvaluation(*given, MAPS, index=value),
    "chunk": lambda value, *given: MapEvaluation(*given, MAPS, chunk=value),
    "maps": lambda value, *given: road(*given, value),
    "images": lambda value, model, _, t: road(model, value, t, MAPS),
    "targets": lambda value, model, x, _: road(model, x, value, MAPS),
    "model": lambda value, _, x, t: road(value, x, t, MAPS),
    "method": lambda value, *given: arcc(*given, MAPS, value),
    "maps alone": lambda value, *_: complexity(value),
    "masks": lambda value, *_: cosine_similarity(MAPS, value),
    "masks of iou": lambda value, *_: iou(MAPS, value),
    "missing": lambda value, _, x, __: noisy_linear_imputation(x, value),
    "images to fill": lambda value, *_: noisy_linear_imputation(value, MAPS > 0.5),
    "stage": lambda value, *given: GradCAM(stage=value)(*given),
    "layout": lambda value, *given: GradCAM(stage="deep", layout=value)(*given),
    "cam": lambda value, *_: RefineCAM(value),
    "layers": lambda value, *given: RefineCAM(GradCAM(), layers=value)(*given),
    "aggregator": lambda value, *_: RefineCAM(GradCAM(), aggregator=value),
    "steps": lambda value, *_: IntegratedGradients(steps=value),
    "chunk of ScoreCAM": lambda value, *_: ScoreCAM(chunk=value),
    "samples": lambda value, *_: LIME(samples=value),
    "alpha": lambda value, *_: LIME(alpha=value),
    "preset": lambda value, *_: LIME(preset=value),
    "seed of RandomCAM": lambda value, *_: RandomCAM(seed=value),
}


@pytest.mark.parametrize("use", USES)
def test_odd_values_are_refused_in_one_line(use, tiny_net, images, targets):
    for value in ODD.values():
        with pytest.raises(InputError) as caught:
            USES[use](value, tiny_net, images, targets)
        message = str(caught.value)
        assert ":" in message
        assert "\n" not in message
        assert len(message) <= LONGEST + 3


@pytest.mark.parametrize("chunk", [np.int64(2), 2])
def test_numbers_of_numpy_are_numbers(chunk, tiny_net, images, targets):
    cam = ScoreCAM(stage="deep", chunk=chunk)
    found = road(tiny_net, images, targets, cam(tiny_net, images, targets), index=np.arange(5), seed=np.int64(3))
    assert found.shape == (5,)
