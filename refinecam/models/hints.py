"""What a trained network's feature maps teach one that has no weights yet."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refinecam.core.errors import InputError
from refinecam.models.checkpoints import build_network, read_weights


class Hints(nn.Module):
    """A student's feature maps learn to predict a teacher's, after FitNets (Romero et al., ICLR 2015).

    A class label says one thing of an image, feature maps say what is at every place, so a network learns from them in
    fewer steps. Compared are the stages of equal stride, from 4 on, the deepest of each; FitNets has one stage, and
    trains it first. A regressor, which normalizes the student's map for each image and is a 1 x 1 convolution then,
    predicts the teacher's channels, each of which is standardized over the batch. It serves training alone.

    Args:
        teacher: timm network whose ``feature_info`` names its stages. It is frozen and put into eval mode, and it is in
            no ``state_dict``.
        student: another such network, whose images are normalized alike.
        normalize: whether the teacher's training normalized its images.

    Raises:
        InputError: if they cannot be compared.
    """

    def __init__(self, teacher: nn.Module, student: nn.Module, normalize: bool = True) -> None:
        super().__init__()
        of_teacher, of_student = _stages(teacher), _stages(student)
        strides = sorted(of_teacher.keys() & of_student.keys())
        if not strides:
            raise InputError(
                f"teacher: its stages have strides {sorted(of_teacher)}, the backbone's {sorted(of_student)}; one must "
                "be the same, so give another teacher, or none"
            )
        configs = [network.pretrained_cfg for network in (teacher, student)]
        colors = [(config["mean"], config["std"]) for config in configs]  # type: ignore[index]
        if normalize and colors[0] != colors[1]:
            raise InputError(
                f"teacher: it takes images of mean and standard deviation {colors[0]}, the backbone of {colors[1]}; "
                "give another teacher, or none"
            )
        self.normalize = normalize
        self.teacher_stages, self.student_stages = ([of[s][0] for s in strides] for of in (of_teacher, of_student))
        self.regressors = nn.ModuleList(
            nn.Sequential(nn.GroupNorm(1, of_student[s][1]), nn.Conv2d(of_student[s][1], of_teacher[s][1], 1))
            for s in strides
        )
        teacher = teacher.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        self._teacher = (teacher,)  # in a tuple it is no part of this module: it is neither trained nor saved

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Hints":
        """Take the teacher along to another device or type."""
        self._teacher[0]._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def forward(self, images: Tensor, student_maps: list[Tensor]) -> Tensor:
        """Mean squared error of the regressors, added up over the stages.

        Args:
            images: (N, 3, H, W), normalized.
            student_maps: those of ``student_stages``, each (N, C, h, w).

        Returns:
            A scalar, 0 where all is predicted; where the regressors put out 0, about the number of stages, less where
            the teacher's channels hardly vary.
        """
        with torch.no_grad():
            teacher_maps = stage_maps(self._teacher[0], images, self.teacher_stages)[1]
        error = torch.zeros((), device=images.device)
        for regressor, student_map, teacher_map in zip(self.regressors, student_maps, teacher_maps, strict=True):
            # Sizes that a stride does not divide are rounded up by one network and down by another.
            target = F.adaptive_avg_pool2d(teacher_map.float(), (student_map.shape[2], student_map.shape[3]))
            variance, mean = torch.var_mean(target, (0, 2, 3), correction=0, keepdim=True)
            error = error + F.mse_loss(regressor(student_map).float(), (target - mean) * (variance + 1e-5).rsqrt())
        return error


def create_hints(teacher: str, student: nn.Module) -> Hints:
    """Hints of trained weights: a file of train.py, or a shipped name.

    Raises:
        InputError: if there are no such weights, or their network cannot be compared with the student.
    """
    try:
        weights = read_weights(teacher)
    except InputError as error:
        raise InputError(f"teacher: {str(error).removeprefix('checkpoint: ')}") from error
    return Hints(build_network(weights, any_size=True), student, weights.normalize)


def stage_maps(network: nn.Module, images: Tensor, stages: list[int]) -> tuple[Tensor, list[Tensor]]:
    """The last features of a timm network, for its ``forward_head``, and maps (N, C, h, w) of some of its stages."""
    return network.forward_intermediates(images, indices=stages, output_fmt="NCHW")  # type: ignore[operator]


def _stages(network: nn.Module) -> dict[int, tuple[int, int]]:
    """Index and channels of the stage of each stride from 4 on."""
    info = getattr(network, "feature_info", None)
    if not info or not hasattr(network, "forward_intermediates"):
        name = type(network).__name__
        raise InputError(f"teacher: timm does not name the stages of a {name}; leave out teacher")
    return {stage["reduction"]: (i, stage["num_chs"]) for i, stage in enumerate(info) if stage["reduction"] >= 4}
