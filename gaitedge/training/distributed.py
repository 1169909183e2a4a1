"""The processes that train together: PyTorch's own, as torchrun starts them."""

from __future__ import annotations

import contextlib
import datetime
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch import distributed as dist

from gaitedge.errors import MachineError

__all__ = ["Team", "team"]

_LEFT = re.compile(r"Connection (closed|reset) by peer", re.IGNORECASE)  # in gloo's words
_PATIENCE = datetime.timedelta(hours=2)  # the others wait while the first evaluates


@dataclass(frozen=True)
class Team:
    """This process among those that train together; one alone is a team of 1."""

    device: torch.device
    rank: int = 0
    world: int = 1

    def gather(self, mine: Tensor) -> Tensor:
        """Everyone's rows, one process after the other; the gradient reaches this process's own.

        mine: [rows, ...], of one shape in every process → [world·rows, ...].
        """
        if self.world == 1:
            return mine
        everyone = [torch.empty_like(mine) for _ in range(self.world)]
        dist.all_gather(everyone, mine.detach().contiguous())
        everyone[self.rank] = mine
        return torch.cat(everyone)

    def agree(self, number: int) -> bool:
        """Whether every process has the same number."""
        return bool((self.gather(torch.tensor([number], device=self.device)) == number).all())

    def wait(self) -> None:
        """Until every process is here."""
        if self.world > 1:
            dist.barrier()


@contextlib.contextmanager
def team(device: str) -> Iterator[Team]:
    """Join the processes that torchrun started; alone where it did not.

    device: "cpu", "cuda" or "auto"; every process on a host takes a GPU of its own.
    Raises MachineError where there is no GPU, or fewer than processes, and where another one has ended.
    """
    usable = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto":
        device = "cuda" if usable else "cpu"
    if device == "cuda" and not usable:
        raise MachineError("PyTorch sees no GPU here: run gaitedge doctor, or train with --device cpu")
    world, local = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))
    if device == "cuda" and local >= usable:
        raise MachineError(f"process {local} has no GPU of its own: there are {usable}; start fewer")
    place = torch.device("cuda", local) if device == "cuda" else torch.device("cpu")
    if place.type == "cuda":
        torch.cuda.set_device(place)
    if world == 1:
        yield Team(place)
        return
    dist.init_process_group("nccl" if place.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield Team(place, dist.get_rank(), dist.get_world_size())
    except RuntimeError as error:
        if not _LEFT.search(str(error)):
            raise
        raise MachineError("another process of this training has ended; its own line says why") from None
    finally:
        dist.destroy_process_group()
