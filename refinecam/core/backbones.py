"""What timm knows of a network by its name."""

import difflib
from typing import Any

import timm

from refinecam.core.errors import InputError


def check_backbone(name: str) -> None:
    """Refuse a name that timm does not know.

    Raises:
        InputError: with names that are close to it.
    """
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.4) or timm.list_models(f"{name}*")[:3]
        raise InputError(f"backbone: timm has no model named {name!r}; close to it: {', '.join(close) or 'none'}")


def data_config(name: str) -> dict[str, Any]:
    """What timm says of a network's images: ``input_size``, ``crop_pct``, ``mean``, ``std`` and ``interpolation``.

    Raises:
        InputError: if timm does not know the name.
    """
    check_backbone(name)
    config = timm.models.get_pretrained_cfg(name)
    return timm.data.resolve_data_config(pretrained_cfg=config.to_dict() if config else {"input_size": (3, 224, 224)})


def takes_any_size(name: str) -> bool:
    """Whether images of other sizes go through the same network, as a crop curriculum needs it."""
    config = timm.models.get_pretrained_cfg(name)
    return config is None or not config.fixed_input_size or name.startswith("swin")
