from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from gaitedge.errors import GalleryError, InputError
from gaitedge.people import identification
from gaitedge.people.gallery import Enrolment, Gallery
from gaitedge.people.identification import Match, distances, identify, suggest_threshold
from gaitedge.people.search import SMALL, Index, build_index

Array = NDArray[np.float32]
MODEL = "ab" * 32


def stated(probes: Array, gallery: Array) -> NDArray[np.float64]:
    """Sec. 3.4 word by word: the mean over the parts of the Euclidean distance."""
    result = np.empty((len(probes), len(gallery)))
    for (i, probe), (j, known) in itertools.product(enumerate(probes), enumerate(gallery)):
        difference = probe.astype(np.float64) - known.astype(np.float64)
        result[i, j] = np.mean([np.sqrt(np.sum(part**2)) for part in difference])
    return result


def as_exact_as_float32(found: Array, expected: NDArray[np.float64]) -> bool:
    """Within one unit in the last place of every distance, the smallest ones too."""
    return found.dtype == np.float32 and bool(
        np.all(np.abs(found - expected) <= np.spacing(expected.astype(np.float32)))
    )


@pytest.mark.parametrize(
    ("p", "g", "parts", "dim"), [(1, 1, 1, 1), (1, 7, 16, 256), (5, 1, 3, 128), (9, 8, 4, 17), (6, 6, 2, 1)]
)
@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e15])
def test_distances_are_the_papers(p: int, g: int, parts: int, dim: int, scale: float) -> None:
    rng = np.random.default_rng(0)
    probes = (scale * rng.standard_normal((p, parts, dim))).astype(np.float32)
    gallery = (scale * rng.standard_normal((g, parts, dim))).astype(np.float32)
    assert as_exact_as_float32(distances(probes, gallery), stated(probes, gallery))


@pytest.mark.parametrize("gap", [1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 3e-3, 1e-2])
@pytest.mark.parametrize("offset", [0.0, 1.0, 1000.0])
def test_near_equal_embeddings_lose_no_digits(gap: float, offset: float) -> None:
    rng = np.random.default_rng(1)
    gallery = (offset + rng.standard_normal((40, 4, 256))).astype(np.float32)
    probes = (gallery * (1 + gap * rng.standard_normal(gallery.shape))).astype(np.float32)
    found, expected = distances(probes, gallery), stated(probes, gallery)
    assert expected.diagonal().min() > 0
    assert as_exact_as_float32(found, expected)


def test_a_difference_of_one_bit_in_one_value() -> None:
    gallery = np.random.default_rng(2).standard_normal((3, 1, 256)).astype(np.float32)
    gallery[:, 0, 7] = 1e-6
    probes = gallery.copy()
    probes[:, 0, 7] = np.nextafter(np.float32(1e-6), np.float32(1))
    found = distances(probes, gallery)
    assert as_exact_as_float32(found, stated(probes, gallery))
    assert (found.diagonal() > 0).all()


def test_two_tight_groups_far_apart() -> None:
    """Most pairs are close in comparison to the offset, the case in which a product alone is worst."""
    rng = np.random.default_rng(3)
    gallery = rng.standard_normal((60, 2, 64)) * 1e-6 + np.where(np.arange(60) % 2, 100, -100)[:, None, None]
    embeddings = gallery.astype(np.float32)
    assert as_exact_as_float32(distances(embeddings, embeddings), stated(embeddings, embeddings))


def test_an_embedding_is_at_0_from_its_copy() -> None:
    embeddings = np.random.default_rng(4).standard_normal((50, 16, 256), dtype=np.float32)
    assert (distances(embeddings, embeddings).diagonal() == 0).all()
    same = np.broadcast_to(embeddings[:1], (30, 16, 256))
    assert (distances(same, same) == 0).all()


def test_blocks_join_without_a_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    probes = rng.standard_normal((23, 3, 8), dtype=np.float32)
    gallery = np.concatenate([rng.standard_normal((31, 3, 8), dtype=np.float32), probes[::2]])
    whole = distances(probes, gallery)
    monkeypatch.setattr(identification, "PROBE_BLOCK", 5)
    monkeypatch.setattr(identification, "GALLERY_BLOCK", 7)
    monkeypatch.setattr(identification, "DIRECT_BLOCK", 2)
    assert np.allclose(distances(probes, gallery), whole, rtol=2e-7, atol=0)
    assert as_exact_as_float32(distances(probes, gallery), stated(probes, gallery))


def test_memory_is_bounded() -> None:
    """In one piece, this would take 3000 * 3000 * 64 differences of 8 bytes, 4.6 GB a part."""
    embeddings = np.random.default_rng(6).standard_normal((3000, 2, 64), dtype=np.float32)
    tracemalloc.start()
    result = distances(embeddings, embeddings)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak - result.nbytes < 150e6


def test_distances_to_nobody() -> None:
    embeddings = np.zeros((3, 4, 8), np.float32)
    assert distances(embeddings, embeddings[:0]).shape == (3, 0)
    assert distances(embeddings[:0], embeddings).shape == (0, 3)


@pytest.mark.parametrize(
    ("probes", "gallery"),
    [((2, 4, 8), (2, 4, 9)), ((2, 4, 8), (2, 5, 8)), ((4, 8), (2, 4, 8)), ((2, 0, 8), (2, 0, 8))],
)
def test_shapes_that_do_not_fit(probes: tuple[int, ...], gallery: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="count, parts, dim"):
        distances(np.zeros(probes, np.float32), np.zeros(gallery, np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_no_numbers(value: float) -> None:
    good = np.zeros((2, 4, 8), np.float32)
    bad = good.copy()
    bad[1, 2, 3] = value
    for pair in ((good, bad), (bad, good)):
        with pytest.raises(InputError, match="NaN or infinite"):
            distances(*pair)


def at(*values: float) -> Array:
    """An embedding [1, 2], whose distances can be told at sight."""
    return np.array([values], np.float32)


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    gallery = Gallery.create(tmp_path / "people", MODEL, 1, 2)
    gallery.enroll_many(
        [
            Enrolment("Ada", at(9, 0), "nm-01", "000"),
            Enrolment("Bob", at(0, 4), "nm-01", "090"),
            Enrolment("Ada", at(3, 0), "bg-01", "090"),
            Enrolment("Eve", at(0, -5)),
            Enrolment("Bob", at(0, 6), "cl-01", "018"),
        ]
    )
    return gallery


def test_people_are_ranked_by_their_nearest_sequence(gallery: Gallery) -> None:
    with gallery:
        result = identify(gallery, at(0, 0))
    assert result.matches == (
        Match("Ada", 3.0, "bg-01", "090", 3, (3.0,)),
        Match("Bob", 4.0, "nm-01", "090", 2, (4.0,)),
        Match("Eve", 5.0, None, None, 4, (5.0,)),
    )
    assert result.margin == 1
    assert not result.unknown
    assert result.threshold is None


@pytest.mark.parametrize(("top", "names"), [(1, ["Ada"]), (2, ["Ada", "Bob"]), (9, ["Ada", "Bob", "Eve"])])
def test_top(gallery: Gallery, top: int, names: list[str]) -> None:
    with gallery:
        assert [match.subject for match in identify(gallery, at(0, 0), top=top).matches] == names


def test_a_tie_goes_to_whoever_was_enrolled_first(gallery: Gallery) -> None:
    with gallery:
        gallery.enroll("Aaron", at(0, 4))
        names = [match.subject for match in identify(gallery, at(0, 4)).matches]
    assert names[:2] == ["Bob", "Aaron"]


def test_the_margin_is_to_the_next_person_whoever_is_named(gallery: Gallery) -> None:
    with gallery:
        assert identify(gallery, at(0, 0), top=1).margin == 1
        assert identify(gallery, at(3, 0), top=1).margin == 5.0  # Ada's other walk is no other person
        for name in ("Bob", "Eve"):
            gallery.remove(name)
        assert identify(gallery, at(0, 0)).margin is None


def test_the_parts_distances_are_those_of_the_nearest_sequence(tmp_path: Path) -> None:
    walks = np.random.default_rng(10).standard_normal((4, 3, 8), dtype=np.float32)
    with Gallery.create(tmp_path / "people", MODEL, 3, 8) as gallery:
        gallery.enroll_many([Enrolment(name, walk) for name, walk in zip("AABB", walks, strict=True)])
        for match in identify(gallery, 2 * walks[3]).matches:
            difference = 2.0 * walks[3] - walks[match.sequence - 1]
            assert match.parts == pytest.approx(np.sqrt((difference**2).sum(axis=1)))
            assert match.distance == pytest.approx(np.mean(match.parts))


def test_a_large_gallery_is_summarised_once_and_again_when_it_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    walks = np.random.default_rng(11).standard_normal((SMALL + 1, 2, 8), dtype=np.float32)
    built = []

    def build(embeddings: Array, subjects: list[str]) -> Index:
        built.append(len(subjects))
        return build_index(embeddings, subjects)

    monkeypatch.setattr(identification, "build_index", build)
    with Gallery.create(tmp_path / "people", MODEL, 2, 8) as gallery:
        gallery.enroll_many([Enrolment(f"{number}", walk) for number, walk in enumerate(walks)])
        for number in (3, 5, 7):
            assert identify(gallery, walks[number]).matches[0].subject == f"{number}"
        assert built == [SMALL + 1]
        gallery.remove("5")
        with Gallery.open(gallery.path) as other:
            other.enroll("new", walks[5])
        result = identify(gallery, walks[5])
        assert (result.matches[0].subject, result.matches[0].distance) == ("new", 0)
        assert built == [SMALL + 1, SMALL + 1]


@pytest.mark.parametrize("count", [SMALL, SMALL + 1, 5 * SMALL])
def test_ranks_are_those_of_all_distances(tmp_path: Path, count: int) -> None:
    """On both sides of the size from which bounds are used."""
    rng = np.random.default_rng(12)
    walks = rng.standard_normal((count, 3, 4), dtype=np.float32)
    names = [f"{number}" for number in rng.integers(0, count // 2, count)]
    with Gallery.create(tmp_path / "people", MODEL, 3, 4) as gallery:
        gallery.enroll_many(map(Enrolment, names, walks))
        for probe in rng.standard_normal((5, 3, 4), dtype=np.float32):
            row = stated(probe[None], walks)[0].astype(np.float32)
            best: dict[str, float] = {}
            for number in np.argsort(row, kind="stable"):
                best.setdefault(names[number], float(row[number]))
            found = identify(gallery, probe, top=20).matches
            assert [(match.subject, match.distance) for match in found] == list(best.items())[:20]


@pytest.mark.parametrize(("threshold", "unknown"), [(2.9, True), (3.0, False), (3.1, False), (0.0, True)])
@pytest.mark.parametrize("stored", [True, False])
def test_beyond_the_threshold_nobody_is_known(
    gallery: Gallery, threshold: float, unknown: bool, stored: bool
) -> None:
    with gallery:
        gallery.threshold = threshold if stored else 100.0
        result = identify(gallery, at(0, 0), threshold=None if stored else threshold)
    assert result.unknown is unknown
    assert result.threshold == threshold
    assert result.matches[0].subject == "Ada"  # who would have been nearest is told all the same


def test_an_empty_gallery_identifies_nobody(tmp_path: Path) -> None:
    empty = Gallery.create(tmp_path / "people", MODEL, 1, 2)
    with empty, pytest.raises(GalleryError, match="nobody is enrolled in"):
        identify(empty, at(0, 0))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda gallery: identify(gallery, at(0, 0), top=0), "1 or more, not 0"),
        (lambda gallery: identify(gallery, at(0, 0), threshold=-1), "not -1"),
        (lambda gallery: identify(gallery, at(0, 0), threshold=np.nan), "not nan"),
        (lambda gallery: identify(gallery, at(0, 0, 0)), r"the probe is \[1, 3\]"),
        (lambda gallery: identify(gallery, at(0, 0)[None]), r"the probe is \[1, 1, 2\]"),
        (lambda gallery: identify(gallery, at(0, np.nan)), "NaN"),
    ],
)
def test_arguments_that_cannot_be(gallery: Gallery, call: Callable[[Gallery], object], words: str) -> None:
    with gallery, pytest.raises(InputError, match=words):
        call(gallery)


def on_a_line(*values: float) -> Array:
    return np.array(values, np.float32).reshape(-1, 1, 1)


def test_a_gap_is_halved() -> None:
    """Genuine: 1, 1, 2, 2. Impostors': 10 - 1 = 9 for 1 and 10, more for the others."""
    assert suggest_threshold(on_a_line(0, 1, 10, 12), ["A", "A", "B", "B"]) == (2 + 9) / 2


def test_a_single_sequence_counts_as_an_impostor_only() -> None:
    """Genuine: 1, 1. Impostors': 6, 5 and, for C's only walk, 5."""
    assert suggest_threshold(on_a_line(0, 1, 6), ["A", "A", "C"]) == (1 + 5) / 2


def test_where_they_overlap_both_errors_are_equal() -> None:
    rng = np.random.default_rng(7)
    subjects = [name for name in "ABCDEFGH" for _ in range(20)]
    centres = np.repeat(rng.standard_normal((8, 4, 16)), 20, axis=0)
    embeddings = (centres + 1.2 * rng.standard_normal((160, 4, 16))).astype(np.float32)
    threshold = suggest_threshold(embeddings, subjects)

    between = stated(embeddings, embeddings)
    genuine, impostor = [], []
    for i, name in enumerate(subjects):
        genuine.append(min(between[i, j] for j in range(160) if subjects[j] == name and j != i))
        impostor.append(min(between[i, j] for j in range(160) if subjects[j] != name))
    rejected = np.mean(np.array(genuine) > threshold)
    accepted = np.mean(np.array(impostor) <= threshold)
    assert 0.01 < rejected < 0.5  # they do overlap
    assert abs(rejected - accepted) <= 1 / 160


def test_the_threshold_does_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings = np.random.default_rng(8).standard_normal((31, 2, 3), dtype=np.float32)
    subjects = [str(i % 5) for i in range(31)]
    whole = suggest_threshold(embeddings, subjects)
    monkeypatch.setattr(identification, "PROBE_BLOCK", 4)
    assert suggest_threshold(embeddings, subjects) == pytest.approx(whole, rel=1e-6)


def test_identify_with_the_suggestion(tmp_path: Path) -> None:
    """Known walks are known by it and a stranger's is unknown."""
    rng = np.random.default_rng(9)
    centres = rng.standard_normal((4, 4, 16))
    walks = (centres[:, None] + 0.2 * rng.standard_normal((4, 3, 4, 16))).astype(np.float32)
    with Gallery.create(tmp_path / "people", MODEL, 4, 16) as gallery:
        gallery.enroll_many([Enrolment(f"{i}", walks[i, j]) for i in range(3) for j in range(2)])
        array, records = gallery.embeddings()
        gallery.threshold = suggest_threshold(array, [record.subject for record in records])
        results = [identify(gallery, walks[i, 2]) for i in range(4)]
    assert [result.unknown for result in results] == [False, False, False, True]
    assert [result.matches[0].subject for result in results[:3]] == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("embeddings", "subjects", "words"),
    [
        (on_a_line(0, 1), ["A", "A"], "2 subjects or more"),
        (on_a_line(), [], "2 subjects or more"),
        (on_a_line(0, 1), ["A", "B"], "2 sequences or more"),
        (on_a_line(0, 0, 0), ["A", "A", "B"], "equally far"),
        (on_a_line(0, 1), ["A"], "as many subjects"),
    ],
)
def test_what_gives_no_threshold(embeddings: Array, subjects: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        suggest_threshold(embeddings, subjects)
