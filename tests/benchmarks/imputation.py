"""How exact and how fast ROAD's imputation is: ``python -m tests.benchmarks.imputation``.

Differences are to the definition's system, solved directly by scipy in float64. Iterations are counted at resolutions
from 56 to 896 px. Times are beside grad-cam 1.5.7, which solves directly, one mask after the other, in the same run.
"""

import argparse
from functools import partial

import numpy as np
import torch
from pytorch_grad_cam.metrics.road import NoisyLinearImputer

from refinecam.imputation import impute
from tests.benchmarks.timing import take_turns
from tests.test_imputation import direct_solution, holes, iterations

KINDS = ["scattered", "blob", "border", "all but one", "rectangles", "nothing"]


def one_by_one(images: torch.Tensor, missing: torch.Tensor) -> list[torch.Tensor]:
    peer = NoisyLinearImputer(noise=0)
    return [peer(image, (~missing).float()) for image in images]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default, meaning in (
        ("exact", [32, 96, 224], "sides for the differences; 512 takes a minute for each kind"),
        ("iterations", [56, 112, 224, 448, 896], "sides for the counts"),
    ):
        parser.add_argument(f"--{name}", type=int, nargs="+", default=default, help=f"{meaning} (default: %(default)s)")
    parser.add_argument("--side", type=int, default=224, help="side for the times (default: %(default)s)")
    arguments = parser.parse_args()

    print("Largest difference to scipy's direct solution, images of unit variance\n")
    print("| holes | " + " | ".join(f"{side} px" for side in arguments.exact) + " |")
    print("|---" * (len(arguments.exact) + 1) + "|")
    for kind in KINDS:
        cells = []
        for side in arguments.exact:
            image = torch.randn(3, side, side, generator=torch.Generator().manual_seed(0))
            missing = holes(kind, side, side)
            expected = direct_solution(image.numpy(), missing.numpy())
            cells.append(f"{np.abs(impute(image[None], missing[None, None])[0].numpy() - expected).max():.1e}")
        print(f"| {kind} | {' | '.join(cells)} |", flush=True)

    print("\nIterations\n\n| holes | " + " | ".join(f"{side} px" for side in arguments.iterations) + " |")
    print("|---" * (len(arguments.iterations) + 1) + "|")
    for kind in KINDS[:3]:
        counts = [
            iterations(torch.randn(1, 3, side, side), holes(kind, side, side)[None, None])
            for side in arguments.iterations
        ]
        print(f"| {kind} | {' | '.join(map(str, counts))} |", flush=True)

    print(f"\nTimes for 8 masks of {arguments.side} px, {torch.get_num_threads()} threads\n")
    print("| holes | ours | grad-cam | ratio |\n|---|---|---|---|")
    images = torch.randn(8, 3, arguments.side, arguments.side)
    for kind in KINDS[:3]:
        missing = holes(kind, arguments.side, arguments.side)
        ours = partial(impute, images, missing.expand(8, 1, -1, -1))
        (ours_s, _), (theirs_s, _) = take_turns(ours, partial(one_by_one, images, missing), repeats=1)
        print(f"| {kind} | {ours_s * 1e3:.0f} ms | {theirs_s * 1e3:.0f} ms | {theirs_s / ours_s:.1f}x |", flush=True)


if __name__ == "__main__":
    main()
