"""Sums in float64, also of tensors on devices that have none."""

from torch import Tensor

WITHOUT_DOUBLE = {"mps"}
"""Types of devices that refuse float64: Apple's."""


def wide(values: Tensor) -> Tensor:
    """The values in float64: on their device, or on the CPU where their device has no such type."""
    return (values.cpu() if values.device.type in WITHOUT_DOUBLE else values).double()


def narrow(values: Tensor, like: Tensor) -> Tensor:
    """Float32 on the device of another tensor, of what :func:`wide` values gave."""
    return values.float().to(like.device)
