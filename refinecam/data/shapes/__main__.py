"""Look at the shapes: ``python -m refinecam.data.shapes shapes.png`` draws one of each class, style and size."""

import argparse
from pathlib import Path

import torch
from torchvision.utils import make_grid, save_image

from refinecam.core.errors import InputError
from refinecam.data.shapes.drawing import BANDS, CLASSES
from refinecam.data.shapes.module import ShapesDataModule


def main() -> None:
    """Write the picture: a row for each style and size band, a column for each class."""
    parser = argparse.ArgumentParser(prog="python -m refinecam.data.shapes", description=__doc__.split(":")[0])
    parser.add_argument("picture", type=Path, help="file to write, for example shapes.png")
    parser.add_argument("--backgrounds", help="folder of pictures to draw on; scenes are drawn without it")
    parser.add_argument("--seed", type=int, default=0, help="of every draw (default: 0)")
    args = parser.parse_args()
    if args.picture.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        parser.error(f"picture: expected a name that ends with .png or .jpg, got {args.picture}")
    try:
        data = ShapesDataModule(style="both", test_size=600, backgrounds=args.backgrounds, seed=args.seed)
        data.setup("test")
    except InputError as error:
        parser.error(str(error))
    samples = data.dataset("test")
    result = {(s["style"], s["band"], s["label"]): s["image"] for s in map(samples.__getitem__, range(len(samples)))}
    order = [(style, band, label) for style in range(2) for band in range(len(BANDS)) for label in range(len(CLASSES))]
    sheet = make_grid(data.transform.denormalize(torch.stack([result[key] for key in order])), nrow=len(CLASSES))
    args.picture.parent.mkdir(parents=True, exist_ok=True)
    save_image(sheet, args.picture)


if __name__ == "__main__":
    main()
