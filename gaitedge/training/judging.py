"""Rank-1 of a model that is being trained, without leaving PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from gaitedge.config import GaitPartConfig
from gaitedge.engines import embed_all
from gaitedge.evaluation import evaluate_embeddings
from gaitedge.model import GaitPart
from gaitedge.training.distributed import Team

if TYPE_CHECKING:
    from gaitedge.data.store import Store

__all__ = ["judge"]


class _PyTorchEngine:
    """A model under training, as embed_all takes an engine."""

    def __init__(self, model: GaitPart, device: torch.device) -> None:
        self.model, self.device = model, device

    @property
    def config(self) -> GaitPartConfig:
        return self.model.config

    def embed(self, silhouettes: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            embeddings = self.model(torch.from_numpy(silhouettes).to(self.device))
        return np.asarray(embeddings.float().cpu().numpy())


def judge(
    model: GaitPart, store: Store, numbers: list[int], crew: Team, *, shuffled: bool = False
) -> dict[str, float]:
    """Mean rank-1 of each probe set over sequences of a store, in float32.

    Every process does its share; the first one gets the result, the others nothing.

    numbers: of the sequences, gallery and probes. shuffled: their frames in a random order that is
    always the same (Tab. 7). Raises InputError where they fit no protocol.
    """
    mine = numbers[crew.rank :: crew.world]
    share = -(-len(numbers) // crew.world)
    config = model.config
    rows = torch.zeros(share, config.parts, config.embedding_dim)
    if mine:
        walks = [_walk(store, number, shuffled) for number in mine]
        rows[: len(mine)] = torch.from_numpy(embed_all(_PyTorchEngine(model, crew.device), walks))
    everyone = crew.gather(rows.to(crew.device)).cpu().numpy()
    if crew.rank:
        return {}
    # Process r has done r, r + world, ...: back into the order of `numbers`.
    order = [(index % crew.world) * share + index // crew.world for index in range(len(numbers))]
    result = evaluate_embeddings(everyone[order], [store.sequences[number] for number in numbers])
    means = {name: found.all_probes.mean for name, found in result.probe_sets.items()}
    return {name: round(mean, 4) for name, mean in means.items() if mean is not None}


def _walk(store: Store, number: int, shuffled: bool) -> NDArray[np.uint8]:
    walk = store[number]
    return walk[np.random.default_rng(number).permutation(len(walk))] if shuffled else walk
