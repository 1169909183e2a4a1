"""What a training batch holds (Sec. 3.4): subjects, their sequences, and thirty frames of each.

A batch follows from the seed and the iteration alone. A training that goes on, another number of
workers, or several processes that share each batch therefore see the same ones.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gaitedge.config import HEIGHT, WIDTH
from gaitedge.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gaitedge.data.store import Store
    from gaitedge.training.presets import Order, Recipe

__all__ = ["MINIMUM_FRAMES", "BatchSampler", "Drawn", "sample_frames"]

MINIMUM_FRAMES = 15  # shorter sequences are discarded (Sec. 3.4)


def sample_frames(
    length: int, frames: int, rng: np.random.Generator, order: Order = "sorted"
) -> NDArray[np.int64]:
    """Which frames of a sequence to train on: `frames` numbers below `length`.

    A segment of `frames` to `frames` + 10, or of all there are, is cut out and frames are drawn from
    it without replacement, sorted or shuffled (Tab. 7). A sequence of fewer than `frames` is walked
    through again and again, from any of its frames on (Sec. 3.4 has 30 frames and segments to 40).
    """
    window = int(rng.integers(frames, frames + 11))
    if length < frames:
        start = int(rng.integers(0, length))
    else:
        window = min(window, length)
        start = int(rng.integers(0, length - window + 1))
    chosen = rng.permutation(window)[:frames]
    if order == "sorted":
        chosen.sort()
    return np.asarray((start + chosen) % length, dtype=np.int64)


@dataclass(frozen=True)
class Drawn:
    """What a batch is to hold."""

    sequences: list[int]
    """Numbers of sequences in the store."""
    labels: NDArray[np.int64]
    """The subject of each, as a number."""
    frames: list[NDArray[np.int64]]
    """Which frames of each."""


class BatchSampler:
    """Draws batches of P subjects x K sequences (Sec. 3.4).

    store: where from. among: the subjects to draw. recipe: its subjects, samples, frames, order and
    seed. rank, world: of `world` processes that share each batch, the number of this one; it gets an
    equal run of the batch's rows.
    Raises InputError where the subjects are fewer than P, or the batch cannot be shared equally.
    """

    def __init__(
        self, store: Store, among: Iterable[str], recipe: Recipe, rank: int = 0, world: int = 1
    ) -> None:
        wanted = set(among)
        by_subject: dict[str, list[int]] = defaultdict(list)
        for index, sequence in enumerate(store.sequences):
            if sequence.subject in wanted and sequence.length >= MINIMUM_FRAMES:
                by_subject[sequence.subject].append(index)
        if len(by_subject) < recipe.subjects:
            raise InputError(
                f"a batch of {recipe.subjects} subjects needs at least that many with sequences of "
                f"{MINIMUM_FRAMES} frames or more; there are {len(by_subject)}: take fewer subjects"
            )
        rows = recipe.subjects * recipe.samples
        if rows % world:
            raise InputError(
                f"{world} processes cannot share a batch of {rows} sequences equally: "
                "change subjects or samples"
            )
        self.store, self.recipe = store, recipe
        self.pool = [by_subject[subject] for subject in sorted(by_subject)]
        self.rows = slice(rank * rows // world, (rank + 1) * rows // world)

    def draw(self, iteration: int) -> Drawn:
        """What the whole batch of an iteration holds, all processes' rows."""
        recipe = self.recipe
        rng = np.random.default_rng((recipe.seed, iteration))
        sequences: list[int] = []
        labels = []
        for subject in rng.choice(len(self.pool), recipe.subjects, replace=False):
            own = self.pool[subject]
            picks = rng.choice(len(own), recipe.samples, replace=len(own) < recipe.samples)
            sequences += [own[pick] for pick in picks]
            labels += [subject] * recipe.samples
        lengths = [self.store.sequences[number].length for number in sequences]
        frames = [sample_frames(length, recipe.frames, rng, recipe.order) for length in lengths]
        return Drawn(sequences, np.asarray(labels, np.int64), frames)

    def batch(self, iteration: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Silhouettes of this process's rows, [rows, frames, 64, 44], and labels of the whole batch."""
        drawn = self.draw(iteration)
        sequences, frames = drawn.sequences[self.rows], drawn.frames[self.rows]
        silhouettes = np.empty((len(sequences), self.recipe.frames, HEIGHT, WIDTH), np.uint8)
        for row, number, chosen in zip(silhouettes, sequences, frames, strict=True):
            np.take(self.store[number], chosen, axis=0, out=row, mode="clip")  # clip: no second copy
        return silhouettes, drawn.labels
