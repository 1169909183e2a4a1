"""What a training batch holds (Sec. 3.4): subjects, their sequences, and thirty frames of each."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gaitedge.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gaitedge.data.store import Store

__all__ = ["MINIMUM_FRAMES", "BatchSampler", "sample_frames"]

MINIMUM_FRAMES = 15  # shorter sequences are discarded (Sec. 3.4)


def sample_frames(length: int, frames: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Which frames of a sequence to train on: `frames` sorted numbers below `length`.

    A segment of `frames` to `frames` + 10 is cut out and sorted frames are drawn from it without
    replacement; a shorter sequence is repeated first (Sec. 3.4 has 30 to 40).
    """
    window = int(rng.integers(frames, frames + 11))
    start = int(rng.integers(0, max(length - window, 0) + 1))
    chosen = np.sort(rng.choice(max(window, frames), frames, replace=False))
    return np.asarray((start + chosen) % length, dtype=np.int64)


class BatchSampler:
    """Draws batches of `subjects` x `samples` sequences of `frames` frames (P and K of Sec. 3.4)."""

    def __init__(
        self,
        store: Store,
        among: Iterable[str],
        *,
        subjects: int,
        samples: int,
        frames: int,
        seed: int,
    ) -> None:
        """among: the subjects to train on. Raises InputError where they are fewer than `subjects`."""
        wanted = set(among)
        by_subject: dict[str, list[int]] = defaultdict(list)
        for index, sequence in enumerate(store.sequences):
            if sequence.subject in wanted and sequence.length >= MINIMUM_FRAMES:
                by_subject[sequence.subject].append(index)
        if len(by_subject) < subjects:
            raise InputError(
                f"a batch of {subjects} subjects needs at least that many in the store with sequences of "
                f"{MINIMUM_FRAMES} frames or more; there are {len(by_subject)}"
            )
        self.store, self.pool = store, list(by_subject.values())
        self.subjects, self.samples, self.frames = subjects, samples, frames
        self.rng = np.random.default_rng(seed)

    def draw(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """One batch: silhouettes [subjects·samples, frames, 64, 44] uint8 and the subjects' labels."""
        chosen = self.rng.choice(len(self.pool), self.subjects, replace=False)
        batch, labels = [], []
        for subject in chosen:
            sequences = self.pool[subject]
            picks = self.rng.choice(len(sequences), self.samples, replace=len(sequences) < self.samples)
            for pick in picks:
                silhouettes = self.store[sequences[pick]]
                batch.append(silhouettes[sample_frames(len(silhouettes), self.frames, self.rng)])
                labels.append(subject)
        return np.stack(batch), np.asarray(labels, dtype=np.int64)
