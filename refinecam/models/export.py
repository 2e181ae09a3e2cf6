"""Make a small file of trained weights: ``python -m refinecam.models.export best.ckpt NAME.safetensors``."""

import argparse
import sys
from pathlib import Path

from refinecam.core.errors import InputError
from refinecam.models.checkpoints import export_weights, read_weights


def main() -> None:
    """Read the command line and export."""
    parser = argparse.ArgumentParser(
        prog="python -m refinecam.models.export",
        description="Write the weights of a training, without the optimizer's state and in half precision, as "
        "safetensors. Weights in checkpoints/ are then loaded by name: checkpoint NAME.",
    )
    parser.add_argument("checkpoint", help="best.ckpt of a training")
    parser.add_argument("output", help="for example checkpoints/shapes-resnet18.safetensors")
    args = parser.parse_args()
    if Path(args.output).suffix != ".safetensors":
        parser.error(f"output: expected a name that ends with .safetensors, got {args.output}")
    try:
        export_weights(read_weights(args.checkpoint), args.output)
    except InputError as error:
        sys.exit(f"error: {error}")
    print(f"{args.output}: {Path(args.output).stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
