"""Sampling without padding: every image once, whatever the number of processes."""

from collections.abc import Callable, Iterator
from typing import Any

import cv2
import torch
from lightning.pytorch.overrides.distributed import UnrepeatedDistributedSampler
from torch.distributed import get_rank, get_world_size, is_available, is_initialized
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from refinecam.core.errors import InputError


class LazyLoader(DataLoader):
    """Starts its workers when the first batch is asked for.

    Lightning asks for an iterator when it gets a loader and for another when the epoch begins: workers would start
    twice in every epoch, and what the first ones drew would be thrown away.
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        yield from super().__iter__()


def evaluation_loader(
    dataset: Dataset, batch_size: int, num_workers: int = 0, collate_fn: Callable[[list[Any]], Any] | None = None
) -> DataLoader:
    """Loader that shows each sample once, in order, across all processes.

    Args:
        dataset: its samples are dealt to the processes in turn.
        batch_size: of each process. A process for which no sample is left gets one empty batch, ``{}``, as each
            process of a test needs at least one.
        num_workers: processes that draw samples.
        collate_fn: makes a batch of samples; None stacks them.
    """
    world, rank = _processes()
    if rank >= len(dataset) > 0:  # type: ignore[arg-type]
        nothing: list[dict] = [{}]
        return DataLoader(nothing, None, sampler=UnrepeatedDistributedSampler(nothing, 1, 0))  # type: ignore[arg-type]
    sampler = UnrepeatedDistributedSampler(dataset, world, rank, shuffle=False)
    options = _workers(num_workers, persistent=False)
    return DataLoader(dataset, batch_size, sampler=sampler, collate_fn=collate_fn, **options)


def check_no_image_twice(loader: Any) -> None:
    """Refuse a loader whose sampler, Lightning's where it has set one, fills up the processes with images again.

    Raises:
        InputError: with the remedy.
    """
    sampler = getattr(loader, "sampler", None)
    if isinstance(sampler, DistributedSampler) and not isinstance(sampler, UnrepeatedDistributedSampler):
        count = len(sampler.dataset)  # type: ignore[arg-type]
        if count % sampler.num_replicas:
            raise InputError(
                f"datamodule: {count} images cannot be dealt evenly to {sampler.num_replicas} processes, so some "
                "would count twice; make the loader with refinecam.data.sampling.evaluation_loader"
            )


def training_loader(
    dataset: Dataset, batch_size: int, num_workers: int = 0, shuffle: bool = False, persistent: bool = False
) -> DataLoader:
    """Loader of whole batches, as many for each process, in which no sample is twice.

    Processes must take the same number of steps, so up to a batch for each of them is left out at the end; where there
    is less than a batch for each, the batches are smaller.

    Args:
        dataset: its samples are dealt to the processes in turn.
        batch_size: of each process.
        num_workers: processes that draw samples.
        shuffle: another order in every epoch.
        persistent: keep the workers between epochs.

    Raises:
        InputError: if there are more processes than samples.
    """
    world, rank = _processes()
    count = len(dataset) // world * world  # type: ignore[arg-type]
    if not count:
        samples = len(dataset)  # type: ignore[arg-type]
        raise InputError(f"{samples} samples cannot be dealt to {world} processes; use at most {samples}")
    sampler = UnrepeatedDistributedSampler(range(count), world, rank, shuffle)
    options = _workers(num_workers, persistent)
    return LazyLoader(dataset, batch_size, sampler=sampler, drop_last=count // world >= batch_size, **options)


def prepare_workers(count: int) -> int:
    """Call it before ``count`` processes are forked, to keep OpenCV to one thread in each of them, and in this one.

    PyTorch keeps to one there by itself, but OpenCV takes one for every core of the machine. It must be set before
    the fork: set in the worker, it waits forever for the threads that stayed behind.
    """
    if count:
        cv2.setNumThreads(1)
    return count


def _workers(count: int, persistent: bool) -> dict[str, Any]:
    """Options of a loader; batches in pageable memory would be copied to a GPU, where one is used, while it waits."""
    options = {"persistent_workers": persistent and count > 0, "pin_memory": torch.cuda.is_initialized()}
    return {"num_workers": prepare_workers(count), **options}


def _processes() -> tuple[int, int]:
    """How many processes there are, and which one this is."""
    distributed = is_available() and is_initialized()
    return (get_world_size(), get_rank()) if distributed else (1, 0)
