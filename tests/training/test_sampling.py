from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gaitedge.data.store import Store, StoreWriter
from gaitedge.errors import InputError
from gaitedge.training.presets import Recipe
from gaitedge.training.sampling import BatchSampler, sample_frames

SMALL = Recipe(subjects=2, samples=4, frames=6)


@given(st.integers(15, 200), st.integers(1, 40), st.integers(0, 2**16))
def test_frames_are_sorted_and_within_a_segment(length: int, frames: int, seed: int) -> None:
    """Sec. 3.4: a segment of 30 to 40, and 30 sorted frames of it; shorter walks are repeated."""
    chosen = sample_frames(length, frames, np.random.default_rng(seed))
    assert len(chosen) == frames
    assert ((chosen >= 0) & (chosen < length)).all()
    steps = np.diff(chosen)
    if length >= frames:
        assert (steps > 0).all()
        assert chosen[-1] - chosen[0] < frames + 10
    else:  # each fall is one repetition of the walk
        assert (steps < 0).sum() <= (frames + 10) // length + 1


@pytest.mark.parametrize("length", [15, 22, 29, 30, 33, 40, 100])
def test_every_place_of_a_walk_is_drawn(length: int) -> None:
    rng = np.random.default_rng(0)
    drawn = np.concatenate([sample_frames(length, 30, rng) for _ in range(1000)])
    counts = np.bincount(drawn, minlength=length)
    assert (counts > 0).all()
    if length < 30:  # a walk that is repeated has no place that is drawn more than another
        assert counts.max() < 1.3 * counts.min()


@given(st.integers(15, 200), st.integers(0, 2**16))
def test_shuffled_frames_are_those_of_the_segment_in_any_order(length: int, seed: int) -> None:
    """Tab. 7 changes the order and nothing else."""
    shuffled = sample_frames(length, 30, np.random.default_rng(seed), "shuffled")
    ordered = sample_frames(length, 30, np.random.default_rng(seed))
    assert sorted(shuffled) == sorted(ordered)
    assert (np.diff(shuffled) < 0).sum() > 3


def test_a_walk_of_fifteen_frames_is_repeated_whole() -> None:
    chosen = sample_frames(15, 30, np.random.default_rng(0))
    assert np.unique(chosen, return_counts=True)[1].max() <= 3
    assert len(set(chosen.tolist())) >= 11


@pytest.fixture
def store(tmp_path: Path) -> Store:
    with StoreWriter(tmp_path / "store") as writer:
        for subject in range(4):
            for walk in range(3):
                frames = np.full((14 if walk == 2 else 20, 64, 44), 50 * (subject + 1) + walk + 1, np.uint8)
                frames[:, 0, 1] = range(len(frames))
                writer.append(f"{subject:03d}", f"nm-{walk + 1:02d}", "090", frames)
    return Store(tmp_path / "store")


def test_a_batch_holds_subjects_times_samples_and_no_short_walks(store: Store) -> None:
    sampler = BatchSampler(store, ["000", "001", "003"], SMALL)
    for iteration in range(1, 21):
        silhouettes, labels = sampler.batch(iteration)
        assert silhouettes.shape == (8, 6, 64, 44)
        assert sorted(np.unique(labels, return_counts=True)[1].tolist()) == [4, 4]
        values = silhouettes[:, 0, 0, 0]
        assert not set(values // 50) & {3}  # subject 002 was not asked for
        assert not set(values % 50) & {3}  # the third walks have 14 frames
        subjects = [number // 50 for number in values]
        assert len(set(zip(subjects, labels.tolist(), strict=True))) == 2  # one label a subject


def test_a_batch_holds_the_frames_that_were_drawn(store: Store) -> None:
    sampler = BatchSampler(store, ["000", "001"], SMALL)
    drawn, (silhouettes, labels) = sampler.draw(7), sampler.batch(7)
    assert np.array_equal(silhouettes[:, :, 0, 1], np.stack(drawn.frames))
    assert np.array_equal(labels, drawn.labels)
    walks = [50 * (int(store.sequences[number].subject) + 1) for number in drawn.sequences]
    assert (silhouettes[:, 0, 0, 0] // 50 * 50).tolist() == walks


def test_batches_follow_from_seed_and_iteration_alone(store: Store) -> None:
    def draw(sampler: BatchSampler, iterations: list[int]) -> list[list[int]]:
        drawn = [sampler.draw(iteration) for iteration in iterations]
        return [one.sequences + np.concatenate(one.frames).tolist() for one in drawn]

    everyone = ["000", "001", "002"]
    first = BatchSampler(store, everyone, SMALL)
    forwards = draw(first, [1, 2, 3, 4])
    assert draw(first, [4, 3, 2, 1]) == forwards[::-1]
    assert draw(BatchSampler(store, everyone[::-1], SMALL), [1, 2, 3, 4]) == forwards
    assert draw(BatchSampler(store, everyone, SMALL.changed(seed=1)), [1, 2, 3, 4]) != forwards
    assert len({tuple(one) for one in forwards}) == 4


@pytest.mark.parametrize("world", [2, 4, 8])
def test_processes_share_the_batch_of_one(store: Store, world: int) -> None:
    """Each gets a run of its rows, and the labels of all: the loss is over the whole batch."""
    everyone = ["000", "001", "002", "003"]
    whole, labels = BatchSampler(store, everyone, SMALL).batch(5)
    shares = [BatchSampler(store, everyone, SMALL, rank, world).batch(5) for rank in range(world)]
    assert np.array_equal(np.concatenate([silhouettes for silhouettes, _ in shares]), whole)
    assert all(np.array_equal(theirs, labels) for _, theirs in shares)
    assert {len(silhouettes) for silhouettes, _ in shares} == {8 // world}


def test_what_cannot_be_drawn_is_refused(store: Store) -> None:
    everyone = ["000", "001", "002", "003"]
    with pytest.raises(InputError, match=r"a batch of 5 subjects .* there are 4"):
        BatchSampler(store, everyone, SMALL.changed(subjects=5))
    with pytest.raises(InputError, match=r"3 processes cannot share a batch of 8 sequences equally"):
        BatchSampler(store, everyone, SMALL, 0, 3)
