"""What a trained network's feature maps teach one that has no weights yet."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refinecam.errors import InputError
from refinecam.models.checkpoints import load_network


class Hints(nn.Module):
    """The stages of a student tell those of a teacher (FitNets, Romero et al., ICLR 2015).

    A class label says one thing of an image, feature maps say what is at every place, so a network learns from them in
    fewer steps. Compared are the stages of equal stride, from 4 on: a 1 x 1 convolution of the student's map is to tell
    the teacher's channels, each of which counts alike. These convolutions serve training alone.

    Args:
        teacher: timm network whose ``feature_info`` names its stages; it stays as it is and is in no ``state_dict``.
        student: another such network, trained on images that are normalised alike.

    Raises:
        InputError: if they cannot be compared.
    """

    def __init__(self, teacher: nn.Module, student: nn.Module) -> None:
        super().__init__()
        known, learnt = _stages(teacher), _stages(student)
        strides = sorted(known.keys() & learnt.keys())
        if not strides:
            raise InputError("teacher: it has no stage of the same stride as the backbone; name another, or none")
        if any(_colours(teacher)[name] != _colours(student)[name] for name in ("mean", "std")):
            raise InputError("teacher: it and the backbone want images normalised differently; name another, or none")
        self.teacher_stages, self.student_stages = ([stages[s][0] for s in strides] for stages in (known, learnt))
        self.tell = nn.ModuleList(
            nn.Sequential(nn.GroupNorm(1, learnt[stride][1]), nn.Conv2d(learnt[stride][1], known[stride][1], 1))
            for stride in strides
        )
        teacher = teacher.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        self._teacher = (teacher,)  # in a tuple it is no part of this module: it is neither trained nor saved

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Hints":
        """Take the teacher along to another device or type."""
        self._teacher[0]._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def forward(self, images: Tensor, maps: list[Tensor]) -> Tensor:
        """Mean squared error of what the student tells, added up over the stages.

        Args:
            images: (N, 3, H, W), normalised.
            maps: the student's, of ``student_stages``, each (N, C, h, w).

        Returns:
            A scalar, 0 for a student that tells all; for one that tells nothing it is the number of stages, less where
            the teacher's channels are constant.
        """
        with torch.no_grad():
            wanted = stage_maps(self._teacher[0], images, self.teacher_stages)[1]
        error = torch.zeros((), device=images.device)
        for tell, mine, theirs in zip(self.tell, maps, wanted, strict=True):
            # Sizes that a stride does not divide are rounded up by one network and down by another.
            theirs = F.adaptive_avg_pool2d(theirs, (mine.shape[2], mine.shape[3]))
            error = error + F.mse_loss(tell(mine), F.batch_norm(theirs, None, None, training=True))
        return error


def create_hints(teacher: str, student: nn.Module) -> Hints:
    """Hints of trained weights: a file of train.py, or a shipped name.

    Raises:
        InputError: if there are no such weights, or their network cannot be compared with the student.
    """
    try:
        network = load_network(teacher)
    except InputError as error:
        raise InputError(f"teacher: {str(error).removeprefix('checkpoint: ')}") from error
    return Hints(network, student)


def stage_maps(network: nn.Module, images: Tensor, stages: list[int]) -> tuple[Tensor, list[Tensor]]:
    """The last features of a timm network, for its ``forward_head``, and maps (N, C, h, w) of some of its stages."""
    return network.forward_intermediates(images, indices=stages, output_fmt="NCHW")  # type: ignore[operator]


def _stages(network: nn.Module) -> dict[int, tuple[int, int]]:
    """Index and channels of the stage of each stride from 4 on."""
    info = getattr(network, "feature_info", None)
    if not info or not hasattr(network, "forward_intermediates"):
        name = type(network).__name__
        raise InputError(f"teacher: timm does not name the stages of a {name}; leave out --model.teacher")
    return {stage["reduction"]: (i, stage["num_chs"]) for i, stage in enumerate(info) if stage["reduction"] >= 4}


def _colours(network: nn.Module) -> dict[str, tuple[float, ...]]:
    return network.pretrained_cfg  # type: ignore[return-value]
