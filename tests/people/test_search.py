"""The search against the definition, on galleries that are easy, hard, and meant to mislead its bounds."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from gaitedge.errors import InputError
from gaitedge.people import search
from gaitedge.people.search import SMALL, Index, build_index, nearest

Array = NDArray[np.float32]
Kind = Callable[[np.random.Generator, int], Array]
MANY = 2 * SMALL


def defined(embeddings: Array, people: NDArray[np.intp], probe: Array, top: int) -> list[tuple[int, float]]:
    """Sec. 3.4 word by word, in float64: each person's nearest row; of equal distances the first."""
    difference = embeddings.astype(np.float64) - probe.astype(np.float64)
    distance = np.sqrt((difference**2).sum(axis=2)).mean(axis=1).astype(np.float32)
    order = sorted(range(len(distance)), key=lambda row: (distance[row], row))
    first: dict[int, int] = {}
    for row in order:
        first.setdefault(int(people[row]), row)
    return [(row, float(distance[row])) for row in list(first.values())[:top]]


def walkers(rng: np.random.Generator, count: int, parts: int = 4, dim: int = 32) -> Array:
    """Embeddings such as a trained network's: few directions hold most of what differs, far from 0."""
    scale = 0.7 ** np.arange(dim)
    drawn = rng.standard_normal((count, parts, dim)) * scale + 3 * rng.standard_normal((parts, dim))
    return drawn.astype(np.float32)


def scattered(rng: np.random.Generator, count: int) -> Array:
    return rng.standard_normal((count, 4, 32), dtype=np.float32)


def duplicates(rng: np.random.Generator, count: int) -> Array:
    return walkers(rng, 7)[rng.integers(0, 7, count)]


def a_bit_apart(rng: np.random.Generator, count: int) -> Array:
    """One embedding, some of whose values are the next ones that float32 has."""
    one = np.repeat(walkers(rng, 1), count, axis=0)
    return np.where(rng.random(one.shape) < 0.01, np.nextafter(one, np.float32(np.inf)), one)


def clusters(rng: np.random.Generator, count: int) -> Array:
    centres = walkers(rng, 20)[rng.integers(0, 20, count)]
    return (centres + 1e-5 * rng.standard_normal(centres.shape)).astype(np.float32)


def far_from_0(rng: np.random.Generator, count: int) -> Array:
    return (1e4 + walkers(rng, count)).astype(np.float32)


def an_outlier(rng: np.random.Generator, count: int) -> Array:
    embeddings = walkers(rng, count)
    embeddings[count // 2] *= 1e12
    return embeddings


def on_a_sphere(rng: np.random.Generator, count: int) -> Array:
    """The same length of every part, so that lengths tell nothing; and signs, so that many are tied."""
    return np.sign(rng.standard_normal((count, 4, 32))).astype(np.float32)


def constant(rng: np.random.Generator, count: int) -> Array:
    return np.full((count, 4, 32), rng.standard_normal(), np.float32)


KINDS = [walkers, scattered, duplicates, a_bit_apart, clusters, far_from_0, an_outlier, on_a_sphere, constant]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("scale", "templates"), [(1e-30, 1), (1e-18, 1), (1.0, 1), (1.0, 3), (1e15, 1), (1e18, 1)]
)
def test_the_answer_is_the_definitions(kind: Kind, scale: float, templates: int) -> None:
    rng = np.random.default_rng(0)
    embeddings = (kind(rng, MANY).astype(np.float64) * scale).astype(np.float32)
    embeddings = np.where(np.isfinite(embeddings), embeddings, 0).astype(np.float32)
    people = rng.integers(0, MANY // templates, MANY)
    index = build_index(embeddings, [str(person) for person in people], threads=2)
    probes = [embeddings[17], embeddings[5] * np.float32(1.01), embeddings[3] + embeddings[4]]
    probes += [embeddings.mean(axis=0), -embeddings[0], np.zeros_like(embeddings[0])]
    for probe in probes:
        for top in (1, 10):
            found = nearest(embeddings, index, probe, top)
            assert [(one.row, one.distance) for one in found] == defined(embeddings, people, probe, top)
            for one in found:
                assert one.distance == np.float32(one.parts.mean())


def test_random_galleries() -> None:
    for seed in range(40):
        rng = np.random.default_rng(seed)
        parts, dim = int(rng.integers(1, 6)), int(rng.integers(1, 40))
        count, top = int(rng.integers(1, 2 * MANY)), int(rng.integers(1, 30))
        embeddings = walkers(rng, count, parts, dim)
        people = rng.integers(0, rng.integers(1, count + 1), count)
        probe = embeddings[rng.integers(count)] + np.float32(rng.choice([0, 1e-6, 0.1, 1])) * walkers(
            rng, 1, parts, dim
        )[0] * np.float32(0.3)
        index = build_index(embeddings, list(map(str, people)), threads=int(rng.integers(1, 4)))
        found = [(one.row, one.distance) for one in nearest(embeddings, index, probe, top)]
        assert found == defined(embeddings, people, probe, top), seed


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e10])
def test_no_bound_exceeds_its_distance(kind: Kind, scale: float) -> None:
    """What makes the search exact, held against every pair and not only against those that decide."""
    rng = np.random.default_rng(1)
    embeddings = (kind(rng, MANY) * scale).astype(np.float32)
    index = build_index(embeddings, list(map(str, range(MANY))), threads=1)
    if index.bounds is None:
        assert np.abs(embeddings).max() > search.LARGEST
        return
    for probe in (embeddings[3], embeddings[0] + np.float32(1e-6 * scale), -embeddings[9], embeddings[1] * 3):
        true = np.sqrt((embeddings.astype(np.float64) - probe) ** 2 @ np.ones(32)).mean(axis=1)
        rows = np.arange(MANY)
        for lower in (
            search._from_summary(index.bounds, probe, 1),
            search._from_products(index.bounds, embeddings, rows, probe, 1),
        ):
            assert (lower <= true).all()


def test_the_bounds_bite() -> None:
    """Else all of it would be exact and useless: of walkers, few rows are read, and fewer compared."""
    rng = np.random.default_rng(2)
    embeddings = walkers(rng, 20_000)
    index = build_index(embeddings, list(map(str, range(len(embeddings)))), threads=1)
    assert index.bounds is not None
    probe = embeddings[77] + 0.1 * (embeddings[5] - embeddings[6])
    tenth = defined(embeddings, index.people, probe, 10)[-1][1]
    rows = np.arange(len(embeddings))
    assert (search._from_summary(index.bounds, probe, 1) <= tenth).sum() < 400
    assert (search._from_products(index.bounds, embeddings, rows, probe, 1) <= tenth).sum() < 20
    assert len(search._candidates(embeddings, index, probe, 10)) < 20


def test_gathered_and_in_order_are_bounded_alike() -> None:
    embeddings = walkers(np.random.default_rng(3), MANY)
    index = build_index(embeddings, list(map(str, range(MANY))), threads=2)
    assert index.bounds is not None
    few, most = np.arange(0, MANY, 5), np.arange(100, MANY)
    every = search._from_products(index.bounds, embeddings, np.arange(MANY), embeddings[0], 2)
    for rows in (few, most, few[:0]):
        some = search._from_products(index.bounds, embeddings, rows, embeddings[0], 2)
        assert np.allclose(some, every[rows], rtol=1e-4)


def test_top_k_is_of_people_not_of_sequences() -> None:
    """One person owns all of the nearest thousand sequences."""
    rng = np.random.default_rng(4)
    embeddings = walkers(rng, MANY)
    embeddings[:1000] = embeddings[0] + (1e-3 * rng.standard_normal((1000, 4, 32))).astype(np.float32)
    subjects = ["Ada"] * 1000 + [f"{number}" for number in range(1000, MANY)]
    index = build_index(embeddings, subjects)
    found = nearest(embeddings, index, embeddings[0], 5)
    assert len({subjects[one.row] for one in found}) == 5
    assert [(one.row, one.distance) for one in found] == defined(embeddings, index.people, embeddings[0], 5)


def test_fewer_people_than_wanted() -> None:
    embeddings = walkers(np.random.default_rng(5), MANY)
    index = build_index(embeddings, [f"{row % 3}" for row in range(MANY)])
    assert len(nearest(embeddings, index, embeddings[0], 10)) == 3
    nobody = build_index(embeddings[:0], [])
    assert nearest(embeddings[:0], nobody, embeddings[0], 10) == []


def test_blocks_join_without_a_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(6)
    embeddings = walkers(rng, MANY + 7)
    for name in ("BUILD_BLOCK", "SUMMARY_BLOCK", "PRODUCT_BLOCK", "EXACT_BLOCK"):
        monkeypatch.setattr(search, name, 13)
    index = build_index(embeddings, list(map(str, range(len(embeddings)))), threads=3)
    for row in (0, 12, 13, len(embeddings) - 1):
        probe = embeddings[row]
        found = [(one.row, one.distance) for one in nearest(embeddings, index, probe, 7)]
        assert found == defined(embeddings, index.people, probe, 7)
        assert found[0] == (row, 0.0)


def test_a_small_gallery_has_no_bounds_and_a_large_one_has_small_ones() -> None:
    embeddings = scattered(np.random.default_rng(7), SMALL + 1)
    names = list(map(str, range(SMALL + 1)))
    assert build_index(embeddings[:SMALL], names[:SMALL]).bounds is None
    bounds = build_index(embeddings, names).bounds
    assert bounds is not None
    assert bounds.summary.shape == (4, search.LEAD + 1, SMALL + 1)


def test_the_index_keeps_no_embeddings() -> None:
    """A gallery that changed reads its embeddings anew, and both would be twice the memory."""
    embeddings = walkers(np.random.default_rng(8), MANY)
    index = build_index(embeddings, list(map(str, range(MANY))))
    alive = weakref.ref(embeddings)
    del embeddings
    gc.collect()
    assert alive() is None
    assert index.bounds is not None


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers(value: float) -> None:
    embeddings = walkers(np.random.default_rng(9), MANY)
    index = build_index(embeddings, list(map(str, range(MANY))))
    bad = embeddings[0].copy()
    bad[2, 3] = value
    with pytest.raises(InputError, match="probe holds NaN or infinite"):
        nearest(embeddings, index, bad)
    embeddings[MANY - 1] = bad
    with pytest.raises(InputError, match="searched hold NaN or infinite"):
        build_index(embeddings, list(map(str, range(MANY))))


def test_arguments_that_cannot_be() -> None:
    embeddings = walkers(np.random.default_rng(10), 5)
    index = build_index(embeddings, list("abcde"))
    assert isinstance(index, Index)
    for call, words in (
        (lambda: nearest(embeddings, index, embeddings[0], 0), "1 or more, not 0"),
        (lambda: nearest(embeddings[:4], index, embeddings[0]), "index is of 5 embeddings, not of 4"),
        (lambda: nearest(embeddings, index, embeddings[0, :, :5]), r"the probe is \[4, 5\]"),
        (lambda: build_index(embeddings, list("abcd")), "5 embeddings need as many subjects, not 4"),
        (lambda: build_index(embeddings[0], list("abcd")), "count, parts, dim"),
    ):
        with pytest.raises(InputError, match=words):
            call()
