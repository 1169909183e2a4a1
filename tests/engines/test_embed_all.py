"""Sequences of any lengths go through an engine in batches and come out in their order."""

from __future__ import annotations

import numpy as np
import pytest
from bundles import SMALL
from numpy.typing import NDArray

from gaitedge.engines import embed_all
from gaitedge.errors import InputError, SilhouetteError


class CountingEngine:
    """Embeds a sequence as its length and its first pixel, and notes each call's shape."""

    name, description, precision, fingerprint, config = "counting", "", "fp32", "", SMALL

    def __init__(self, largest_batch: int | None = None) -> None:
        self.largest_batch = largest_batch
        self.shapes: list[tuple[int, ...]] = []

    def embed(self, silhouettes: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.shapes.append(silhouettes.shape[:2])
        out = np.zeros((len(silhouettes), SMALL.parts, SMALL.embedding_dim), np.float32)
        out[:, 0, 0], out[:, 0, 1] = silhouettes.shape[1], silhouettes[:, 0, 0, 0]
        return out


def test_sequences_of_one_length_run_together_and_keep_their_places() -> None:
    lengths = [3, 5, 3, 3, 1, 5, 3, 400, 400]
    sequences = [np.full((length, 64, 44), index, np.uint8) for index, length in enumerate(lengths)]
    engine, progress = CountingEngine(), []
    found = embed_all(engine, sequences, batch=3, progress=lambda done, total: progress.append((done, total)))
    assert found[:, 0, 0].tolist() == lengths
    assert found[:, 0, 1].tolist() == list(range(9))
    # Two of 400 frames would take more memory than they gain time.
    assert engine.shapes == [(1, 1), (3, 3), (1, 3), (2, 5), (1, 400), (1, 400)]
    assert progress == [(1, 9), (4, 9), (5, 9), (7, 9), (8, 9), (9, 9)]


def test_a_batch_is_no_larger_than_the_engine_takes() -> None:
    engine = CountingEngine(largest_batch=2)
    assert embed_all(engine, [np.zeros((3, 64, 44), np.uint8)] * 5, batch=4)[:, 0, 0].tolist() == [3] * 5
    assert engine.shapes == [(2, 3), (2, 3), (1, 3)]


def test_a_bad_sequence_is_named_before_anything_runs() -> None:
    engine, good = CountingEngine(), np.zeros((3, 64, 44), np.uint8)
    with pytest.raises(SilhouetteError, match=r"sequence 1 must be \[frames, 64, 44\], .* not \[2, 64, 64\]"):
        embed_all(engine, [good, np.zeros((2, 64, 64), np.uint8)])
    with pytest.raises(SilhouetteError, match=r"sequence 2 must be .* not \[0, 64, 44\]"):
        embed_all(engine, [good, good, good[:0]])
    with pytest.raises(InputError, match="1 sequence or more, not 0"):
        embed_all(engine, [good], batch=0)
    assert engine.shapes == []
