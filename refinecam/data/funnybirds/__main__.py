"""Draw a data set of birds: ``python -m refinecam.data.funnybirds FOLDER``."""

import argparse
import sys
import time

from refinecam.core.errors import InputError
from refinecam.data.funnybirds.writer import write_birds


def main() -> None:
    """Read the command line and draw."""
    parser = argparse.ArgumentParser(
        prog="python -m refinecam.data.funnybirds",
        description="Draw birds whose parts can be taken away, in FunnyBirds' layout: images, part maps and, for the "
        "test, each scene with every set of parts and without each background object. It is a stand-in for those who "
        "lack the official archive: the numbers of parts, cameras, lights and objects are drawn as there, the birds "
        "are ours, and scores on them do not compare with published ones.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("folder", help="where to, for example data/birds; must not exist")
    parser.add_argument("--classes", type=int, default=50, help="combinations of parts")
    parser.add_argument("--train-per-class", type=int, default=1000, help="half of them without some parts")
    parser.add_argument("--test-per-class", type=int, default=10, help="each with about 50 interventions")
    parser.add_argument("--seed", type=int, default=0, help="the same numbers give the same files")
    parser.add_argument("--size", type=int, default=256, help="pixels along a side")
    parser.add_argument("--workers", type=int, default=0, help="processes that draw beside this one")
    args = parser.parse_args()
    start = time.perf_counter()
    try:
        written = write_birds(**vars(args))
    except InputError as error:
        sys.exit(f"error: {error}")
    seconds = time.perf_counter() - start
    print(f"{args.folder}: {written} pictures in {seconds:.0f} s, {written / seconds:.0f} a second")


if __name__ == "__main__":
    main()
