"""Medians and ratios: machines are noisy, so what is compared runs in turns."""

import statistics
import time
from collections.abc import Callable
from typing import Any


def take_turns(*works: Callable[[], Any], repeats: int = 5) -> list[tuple[float, Any]]:
    """Median seconds of each work, and what it gave; for several repeats after a round that does not count."""
    times: list[list[float]] = [[] for _ in works]
    results: list[Any] = [None] * len(works)
    for _ in range(repeats + (repeats > 1)):
        for i, work in enumerate(works):
            start = time.perf_counter()
            results[i] = work()
            times[i].append(time.perf_counter() - start)
    return [(statistics.median(seconds[-repeats:]), result) for seconds, result in zip(times, results, strict=True)]
