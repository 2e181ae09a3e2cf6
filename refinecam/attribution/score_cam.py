"""ScoreCAM: channels weighted by what the network makes of the image masked with them."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refinecam.attribution.cams import CAM
from refinecam.attribution.capture import check_layers_ran, recorded_outputs
from refinecam.attribution.layouts import Layout, to_nchw
from refinecam.attribution.method import normalize, register
from refinecam.core.checks import check_input
from refinecam.core.errors import check_counts
from refinecam.core.memory import chunk_size
from refinecam.core.running import eval_mode, fast_forward, first_logits


@register
class ScoreCAM(CAM):
    """Channels weighted by the softmax, over channels, of the target's logit for the image masked with each of them.

    Each channel is enlarged to the image (corners aligned, as in the reference implementations) and min-max normalized
    before it multiplies the image (Wang et al., CVPR Workshops 2020). There is one forward for each channel and no
    backward, so it works in inference mode, too.

    Args:
        stage: index from shallow (0) to deep (-1, the default), or a layer's name.
        layout: as for every :class:`~refinecam.attribution.cams.CAM`.
        chunk: masked images that go through the network at once; bounds the memory and does not change the map. None
            takes what suits the device.
    """

    passes = 500

    def __init__(self, stage: int | str = -1, layout: Layout | None = None, chunk: int | None = None) -> None:
        super().__init__(stage, layout)
        check_counts({"chunk": chunk})
        self.chunk = chunk

    def raw(self, model: nn.Module, image: Tensor, target: Tensor, layers: Sequence[str]) -> list[Tensor]:
        """Maps at the layers' own resolution; see :class:`~refinecam.attribution.cams.CAM`."""
        check_input(image, target)
        with torch.no_grad(), eval_mode(model):
            with recorded_outputs(model, layers) as outputs:
                first_logits(model, image, target)
            check_layers_ran(layers, outputs)
            activations = [to_nchw(model, name, outputs[name], image, self.layout) for name in layers]
            weights = [self._weights(model, image, target, activation) for activation in activations]
        return [(w * a).sum(1, keepdim=True) for w, a in zip(weights, activations, strict=True)]

    def _weights(self, model: nn.Module, image: Tensor, target: Tensor, activation: Tensor) -> Tensor:
        count, channels = activation.shape[:2]
        small = activation.reshape(count * channels, 1, *activation.shape[2:])
        owner = torch.arange(count, device=image.device).repeat_interleave(channels)
        chunk = chunk_size(image, self.chunk)
        scores = []
        for rows, owners in zip(small.split(chunk), owner.split(chunk), strict=True):
            masks = normalize(F.interpolate(rows, size=image.shape[2:], mode="bilinear", align_corners=True))
            logits = fast_forward(model, image[owners] * masks.to(image))
            scores.append(logits.gather(1, target[owners, None]).squeeze(1))
        stacked = torch.cat(scores) if scores else activation.new_zeros(0)
        return stacked.float().reshape(count, channels, 1, 1).softmax(1)
