"""Sampling without padding: every image once, whatever the number of processes."""

from collections.abc import Iterator, Sized
from typing import Any

from torch.distributed import get_rank, get_world_size, is_available, is_initialized
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler

from refinecam.errors import InputError


class UnpaddedDistributedSampler(DistributedSampler):
    """Deals the indices 0, 1, 2, … to the processes in turn and never repeats one.

    The usual sampler pads with repeated samples until all processes have as many, which counts these twice.
    Lightning leaves a loader alone whose sampler is already a ``DistributedSampler``.
    """

    def __init__(self, dataset: Sized, num_replicas: int, rank: int) -> None:
        super().__init__(dataset, num_replicas=num_replicas, rank=rank, shuffle=False)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.rank, len(self.dataset), self.num_replicas))  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(range(self.rank, len(self.dataset), self.num_replicas))  # type: ignore[arg-type]


def evaluation_loader(dataset: Dataset, batch_size: int, num_workers: int = 0) -> DataLoader:
    """Loader that shows each sample once, in order, across all processes.

    Raises:
        InputError: if there are more processes than samples.
    """
    distributed = is_available() and is_initialized()
    world, rank = (get_world_size(), get_rank()) if distributed else (1, 0)
    count = len(dataset)  # type: ignore[arg-type]
    if count < world:
        raise InputError(f"{count} samples cannot be dealt to {world} processes: use at most {count} --trainer.devices")
    sampler = UnpaddedDistributedSampler(dataset, world, rank)  # type: ignore[arg-type]
    options: dict[str, Any] = {"persistent_workers": num_workers > 0}
    return DataLoader(dataset, batch_size, sampler=sampler, num_workers=num_workers, **options)
