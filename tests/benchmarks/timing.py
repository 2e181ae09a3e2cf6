"""Medians and ratios: machines are noisy, so what is compared runs in turns."""

import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def machine() -> str:
    """The processor, and the GPU where there is one, with their versions."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor()
    vector = "AVX-512" if any("avx512f" in line for line in lines) else "no AVX-512"
    gpu = f", {torch.cuda.get_device_name()}, CUDA {torch.version.cuda}" if torch.cuda.is_available() else ""
    return f"{name} ({vector}), {torch.get_num_threads()} threads{gpu}, torch {torch.__version__}"


def take_turns(*works: Callable[[], Any], repeats: int = 5) -> list[tuple[float, Any]]:
    """Median seconds of each work, and what it gave; for several repeats after a round that does not count."""
    times: list[list[float]] = [[] for _ in works]
    results: list[Any] = [None] * len(works)
    for _ in range(repeats + (repeats > 1)):
        for i, work in enumerate(works):
            synchronize()
            start = time.perf_counter()
            results[i] = work()
            synchronize()
            times[i].append(time.perf_counter() - start)
    return [(statistics.median(seconds[-repeats:]), result) for seconds, result in zip(times, results, strict=True)]


def synchronize() -> None:
    """Wait for the GPU, where there is one."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
