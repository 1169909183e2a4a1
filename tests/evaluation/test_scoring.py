from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gaitedge.evaluation import scoring
from gaitedge.evaluation.scoring import BINS, RANKS, rank1, ranks, score
from gaitedge.people import identification


def test_rank1() -> None:
    between = np.array([[1, 2, 3], [3, 2, 1], [2, 2, 5], [9, 8, 7]], np.float32)
    # Right; wrong; right, for of equal distances the first counts; the subject is not in the gallery.
    assert rank1(between, ["A", "B", "A", "Z"], ["A", "B", "C"]) == 0.5


def test_ranks_count_subjects_not_sequences() -> None:
    between = np.array([[1, 2, 3, 4, 5, 6]], np.float32)
    known = ["A", "A", "B", "A", "C", "B"]
    assert [int(ranks(between, [name], known)[0]) for name in "ABCZ"] == [1, 2, 3, 0]


def test_of_equal_distances_the_first_column_counts() -> None:
    between = np.zeros((1, 4), np.float32)
    known = ["B", "A", "B", "C"]
    assert [int(ranks(between, [name], known)[0]) for name in "BAC"] == [1, 2, 3]


def stated_rank(row: NDArray[np.float32], subject: int, known: NDArray[np.int64]) -> int:
    """Go through the gallery from the nearest on and count the people met until the right one."""
    met: list[int] = []
    for column in sorted(range(len(row)), key=lambda column: (row[column], column)):
        if known[column] not in met:
            met.append(int(known[column]))
    return met.index(subject) + 1 if subject in met else 0


@given(st.data())
def test_ranks_as_they_are_stated(data: st.DataObject) -> None:
    columns = data.draw(st.integers(1, 8))
    between = np.array(
        data.draw(st.lists(st.lists(st.integers(0, 3), min_size=columns, max_size=columns), min_size=1)),
        np.float32,
    )
    known = np.array(data.draw(st.lists(st.integers(0, 4), min_size=columns, max_size=columns)))
    probes = np.array(data.draw(st.lists(st.integers(0, 5), min_size=len(between), max_size=len(between))))
    found = ranks(between, probes, known)
    assert found.tolist() == [stated_rank(row, who, known) for row, who in zip(between, probes, strict=True)]
    nearest = known[between.argmin(axis=1)]
    assert rank1(between, probes, known) == np.mean(nearest == probes)


@st.composite
def walked(draw: st.DrawFn) -> tuple[NDArray[np.float32], list[NDArray[np.int64]]]:
    """Embeddings of small whole numbers, so that many distances are equal; who, where, and what as."""
    count = draw(st.integers(2, 24))
    values = draw(st.lists(st.integers(-2, 2), min_size=4 * count, max_size=4 * count))
    labels = [
        np.array(draw(st.lists(st.integers(0, most), min_size=count, max_size=count))) for most in (3, 2, 3)
    ]
    return np.array(values, np.float32).reshape(count, 2, 2), labels


@given(walked(), st.integers(1, 9), st.integers(1, 5), st.integers(1, 5))
def test_the_stream_is_the_full_matrix(
    walks: tuple[NDArray[np.float32], list[NDArray[np.int64]]], pairs: int, rows: int, columns: int
) -> None:
    """Ranks and counts over blocks of a few pairs are those over all distances at once."""
    embeddings, (subjects, views, kinds) = walks
    gallery, probes = np.flatnonzero(kinds == 0), np.flatnonzero(kinds > 0)
    if not len(gallery) or not len(probes):
        return
    sets = kinds[probes] - 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "BINS", bins := 50)
        patch.setattr(scoring, "PAIRS", pairs)
        patch.setattr(scoring, "ROWS", rows)
        patch.setattr(identification, "PROBE_BLOCK", rows)
        patch.setattr(identification, "GALLERY_BLOCK", columns)
        found = score(embeddings, subjects, views, gallery, probes, sets, 3)

    difference = embeddings[probes, None].astype(np.float64) - embeddings[None, gallery]
    full = np.sqrt((difference**2).sum(axis=3)).mean(axis=2).astype(np.float32)
    other_view = views[probes, None] != views[gallery]
    own = subjects[probes, None] == subjects[gallery]
    assert full.max() < bins * found.resolution
    for number in range(3):
        of_set = (sets == number)[:, None] & other_view
        for counts, chosen in ((found.genuine, of_set & own), (found.impostor, of_set & ~own)):
            expected = np.bincount((full[chosen] / found.resolution).astype(int), minlength=bins)
            assert np.array_equal(counts[number], expected)
        assert found.ever_ranked[number] == of_set.any(axis=1).sum()
        assert found.ever_with_gallery[number] == (of_set & own).any(axis=1).sum()
        for probe_view in range(views.max() + 1):
            for gallery_view in range(views.max() + 1):
                where = (number, probe_view, gallery_view)
                here = (sets == number) & (views[probes] == probe_view)
                there = views[gallery] == gallery_view
                if probe_view == gallery_view or not there.any():
                    here[:] = False
                known = subjects[gallery[there]]
                placed = [
                    stated_rank(full[probe, there], int(subjects[probes[probe]]), known)
                    for probe in np.flatnonzero(here)
                ]
                assert found.probes[where] == len(placed)
                assert found.with_gallery[where] == np.count_nonzero(placed)
                assert found.hits[where].tolist() == [placed.count(rank) for rank in range(1, RANKS + 1)]


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e15])
@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_bins_reach_beyond_every_distance_and_not_far(scale: float, offset: float) -> None:
    """An offset common to all embeddings, which distances do not have, costs no resolution."""
    drawn = np.random.default_rng(0).standard_normal((200, 3, 16)) + offset
    embeddings = (scale * drawn).astype(np.float32)
    rows = np.arange(200)
    found = score(embeddings, rows, rows % 2, rows[:100], rows[100:], np.zeros(100, int), 1)
    largest = identification.distances(embeddings[:100], embeddings[100:]).max()
    assert largest < BINS * found.resolution < 6 * largest
    assert found.impostor.sum() == 100 * 50


def test_all_embeddings_equal() -> None:
    embeddings = np.ones((4, 2, 2), np.float32)
    zeros = np.zeros(2, int)
    found = score(embeddings, np.zeros(4, int), np.arange(4) % 2, np.arange(2), np.arange(2, 4), zeros, 1)
    assert found.genuine[0, 0] == found.genuine.sum() == 2
    assert found.hits[0, :, :, 0].tolist() == [[0, 1], [1, 0]]


def test_no_more_than_a_block_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "PAIRS", 1 << 18)
    count = 8000
    embeddings = np.random.default_rng(0).standard_normal((count, 1, 2), dtype=np.float32)
    rows = np.arange(count)
    of_probe = np.zeros(count // 2, int)
    tracemalloc.start()
    try:
        found = score(embeddings, rows // 4, rows // 2 % 2, rows[::2], rows[1::2], of_probe, 1)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.probes.sum() > 0
    assert peak < 25e6 < 4 * (count / 2) ** 2  # bytes of all distances


def test_progress_ends_at_all_pairs() -> None:
    rng = np.random.default_rng(1)
    embeddings = rng.standard_normal((60, 1, 2), dtype=np.float32)
    seen: list[tuple[int, int]] = []
    views = np.arange(60) % 3
    score(
        *(embeddings, np.arange(60) % 5, views, np.arange(30), np.arange(30, 60)),
        *(np.zeros(30, int), 1),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen[-1] == (600, 600)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
