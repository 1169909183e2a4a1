from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gaitedge.data.store import Store, StoreWriter
from gaitedge.errors import InputError
from gaitedge.training.sampling import BatchSampler, sample_frames


@given(st.integers(15, 200), st.integers(1, 40), st.integers(0, 2**16))
def test_frames_are_sorted_and_within_a_segment(length: int, frames: int, seed: int) -> None:
    """Sec. 3.4: a segment of 30 to 40, and 30 sorted frames of it; shorter walks are repeated."""
    chosen = sample_frames(length, frames, np.random.default_rng(seed))
    assert len(chosen) == frames
    assert ((chosen >= 0) & (chosen < length)).all()
    steps = np.diff(chosen)
    if length >= frames + 10:
        assert (steps > 0).all()
        assert chosen[-1] - chosen[0] < frames + 10
    else:  # each fall is one repetition of the walk
        assert (steps < 0).sum() <= (frames + 10) // length


def test_every_place_of_a_long_walk_is_drawn() -> None:
    rng = np.random.default_rng(0)
    seen = set(np.concatenate([sample_frames(100, 30, rng) for _ in range(200)]).tolist())
    assert seen == set(range(100))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    with StoreWriter(tmp_path / "store") as writer:
        for subject in range(4):
            for walk in range(3):
                frames = np.full((14 if walk == 2 else 20, 64, 44), 50 * (subject + 1) + walk + 1, np.uint8)
                writer.append(f"{subject:03d}", f"nm-{walk + 1:02d}", "090", frames)
    return Store(tmp_path / "store")


def test_a_batch_holds_subjects_times_samples_and_no_short_walks(store: Store) -> None:
    sampler = BatchSampler(store, ["000", "001", "003"], subjects=2, samples=4, frames=6, seed=0)
    for _ in range(20):
        silhouettes, labels = sampler.draw()
        assert silhouettes.shape == (8, 6, 64, 44)
        assert sorted(np.unique(labels, return_counts=True)[1].tolist()) == [4, 4]
        values = silhouettes[:, 0, 0, 0]
        assert not set(values // 50) & {3}  # subject 002 was not asked for
        assert not set(values % 50) & {3}  # the third walks have 14 frames


def test_batches_are_the_same_by_seed(store: Store) -> None:
    first, second, other = (
        BatchSampler(store, ["000", "001", "002"], subjects=2, samples=2, frames=5, seed=seed)
        for seed in (1, 1, 2)
    )
    draws = [[sampler.draw()[0] for _ in range(5)] for sampler in (first, second, other)]
    assert np.array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])


def test_too_few_subjects_are_refused(store: Store) -> None:
    with pytest.raises(InputError, match=r"a batch of 5 subjects .* there are 4"):
        BatchSampler(store, ["000", "001", "002", "003"], subjects=5, samples=2, frames=5, seed=0)
