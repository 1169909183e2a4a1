"""Engines are measured with silhouettes that differ, never zeros, or with the walks of a store."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from stores import fill, walk

from gaitedge.engines.inputs import draw_silhouettes
from gaitedge.errors import InputError, StoreError
from gaitedge.profiling.inputs import COUNT, describe, make_inputs


def test_drawn_silhouettes_look_like_silhouettes() -> None:
    drawn = draw_silhouettes(2, 20, np.random.default_rng(0))
    assert drawn.shape == (2, 20, 64, 44)
    assert drawn.dtype == np.uint8
    white, black = (drawn == 255).mean(axis=(2, 3)), (drawn == 0).mean(axis=(2, 3))
    assert white.min() > 0.1
    assert black.min() > 0.2
    assert (white + black).max() < 1  # soft edges
    assert len(np.unique(drawn.reshape(40, -1), axis=0)) == 40


@pytest.mark.parametrize(("batch", "frames"), [(2, 5), (8, 100)])  # drawn one by one, or from a pool
def test_inputs_differ_and_follow_from_seed_and_repeat(batch: int, frames: int) -> None:
    def made(seed: int, repeat: int) -> set[bytes]:
        inputs = make_inputs(None, batch, frames, seed, repeat)
        assert [one.shape for one in inputs] == [(batch, frames, 64, 44)] * COUNT
        assert all(one.dtype == np.uint8 and one.any(axis=(2, 3)).all() for one in inputs)
        return {one.tobytes() for one in inputs}

    first = made(0, 0)
    assert len(first) == COUNT
    assert made(0, 0) == first
    assert not first & made(1, 0)
    assert not first & made(0, 1)


def test_of_large_inputs_there_are_two() -> None:
    assert len(make_inputs(None, 400, 30, 0, 0)) == 2


def test_inputs_that_no_memory_holds() -> None:
    with pytest.raises(MemoryError, match="sequences of 1000000000 frames"):
        make_inputs(None, sys.maxsize, 10**9, 0, 0)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Walks of 3 to 7 frames."""
    fill(tmp_path / "store", 6)
    return tmp_path / "store"


def test_walks_of_a_store_cut_or_repeated(store: Path) -> None:
    walks = {number: walk(number) for number in range(6)}

    def is_piece(shown: np.ndarray) -> bool:
        """Whether these are the frames of a walk, in their order, its first again after its last."""
        return any(
            (shown == one[np.arange(start, start + len(shown)) % len(one)]).all()
            for one in walks.values()
            for start in range(max(len(one) - len(shown), 0) + 1)
        )

    for frames in (3, 5, 17):
        inputs = make_inputs(str(store), 3, frames, 0, 0)
        assert all(is_piece(sequence) for one in inputs for sequence in one)
        assert len({sequence.tobytes() for one in inputs for sequence in one}) >= 6  # each of them is there
    assert "6 walks of 3 to 7 frames" in describe(str(store), (3,))
    assert "repeated" not in describe(str(store), (3,))
    assert "shorter ones repeated from their start" in describe(str(store), (3, 5))


def test_some_walks_of_a_store(store: Path) -> None:
    (shown,) = make_inputs(f"{store}:001/nm-01/090", 1, 4, 0, 0)[0]
    assert (shown == walk(1)[:4]).all()
    with pytest.raises(StoreError, match="009/nm-01/090"):
        describe(f"{store}:009/nm-01/090", (3,))
    with pytest.raises(InputError, match="nothing at"):
        describe("/nowhere", (3,))


def test_drawn_inputs_in_words() -> None:
    assert "synthetic" in describe(None, (30,))
