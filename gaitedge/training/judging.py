"""Rank-1 of a model that is being trained, without leaving PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from gaitedge.config import GaitPartConfig
from gaitedge.data.splits import choose_subjects
from gaitedge.engines import embed_all
from gaitedge.errors import InputError
from gaitedge.evaluation import Walks, evaluate_embeddings
from gaitedge.evaluation.protocols import choose_protocol, select
from gaitedge.machine.memory import return_freed_memory
from gaitedge.model import GaitPart
from gaitedge.training.distributed import Team

if TYPE_CHECKING:
    from gaitedge.data.store import Store

__all__ = ["judge", "to_judge"]


class _PyTorchEngine:
    """A model under training, as embed_all takes an engine."""

    largest_batch = None

    def __init__(self, model: GaitPart, device: torch.device) -> None:
        self.model, self.device = model, device

    @property
    def config(self) -> GaitPartConfig:
        return self.model.config

    def embed(self, silhouettes: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            embeddings = self.model(torch.from_numpy(silhouettes).to(self.device))
        return np.asarray(embeddings.float().cpu().numpy())


def to_judge(store: Store, choice: str) -> list[int]:
    """The numbers of the sequences that judge is to be given, found fit before hours of training.

    choice: subjects, as choose_subjects takes them. Raises InputError where it names nobody, or their
    sequences fit no protocol; those that it does not count are left out.
    """
    numbers = store.select(subjects=choose_subjects(choice, {walk.subject for walk in store.sequences}))
    walks = [store.sequences[number] for number in numbers]
    try:
        taken = select(walks, choose_protocol("auto", [walk.condition for walk in walks]))
    except InputError as error:
        raise InputError(f"subjects {choice!r} cannot be evaluated on: {error}") from None
    return [numbers[index] for index in sorted([*taken.gallery, *taken.probes])]


def judge(
    model: GaitPart, store: Store, numbers: list[int], crew: Team, *, shuffled: bool = False
) -> dict[str, float]:
    """Mean rank-1 of each probe set over sequences of a store, in float32.

    Every process does its share; the first one gets the result, the others nothing.

    numbers: of the sequences, gallery and probes. shuffled: as Walks takes it. Raises
    InputError where they fit no protocol.
    """
    mine = numbers[crew.rank :: crew.world]
    share = -(-len(numbers) // crew.world)
    config = model.config
    rows = torch.zeros(share, config.parts, config.embedding_dim)
    if mine:
        walks = Walks(store, mine, shuffled)
        rows[: len(mine)] = torch.from_numpy(embed_all(_PyTorchEngine(model, crew.device), walks))
    return_freed_memory()
    if crew.world > 1:
        rows = crew.gather(rows.to(crew.device))
    if crew.rank:
        return {}
    everyone = rows.cpu().numpy()
    if crew.world > 1:  # process r has done r, r + world, ...: back into the order of `numbers`
        shares = everyone.reshape(crew.world, share, *everyone.shape[1:])
        everyone = shares.swapaxes(0, 1).reshape(everyone.shape)[: len(numbers)]
    result = evaluate_embeddings(everyone, [store.sequences[number] for number in numbers])
    means = {name: found.all_probes.mean for name, found in result.probe_sets.items()}
    return {name: round(mean, 4) for name, mean in means.items() if mean is not None}
