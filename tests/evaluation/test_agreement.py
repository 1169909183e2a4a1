from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bundles import bundle_of
from gaits import CONDITIONS, Walk, draw
from numpy.typing import NDArray

from gaitedge.cli.console import print_json
from gaitedge.config import GaitPartConfig
from gaitedge.data.store import Store, StoreWriter
from gaitedge.errors import InputError
from gaitedge.evaluation import agreement
from gaitedge.evaluation.agreement import compare_embeddings, tables, verify, verify_targets
from gaitedge.evaluation.evaluating import evaluate_embeddings

Array = NDArray[np.float32]
CONFIG = GaitPartConfig(channels=(4, 4, 8), parts=4, embedding_dim=8)
VIEWS = ["000", "090"]


class Known:
    """An engine whose embeddings of a sequence are written into its first frame: 32 bytes, as numbers."""

    def __init__(self, change: Callable[[Array], Array] = lambda made: made, config: GaitPartConfig = CONFIG):
        self.change, self.config, self.largest_batch = change, config, None

    def embed(self, silhouettes: NDArray[np.uint8]) -> Array:
        made = silhouettes[:, 0].reshape(len(silhouettes), -1)[:, :32].astype(np.float32)
        return self.change(made.reshape(-1, 4, 8)).astype(np.float32)


def stored(path: Path, walks: list[Walk], numbers: Array) -> Store:
    """A store whose sequences Known sees as `numbers`, whole ones from 0 to 255, [n, 4, 8]."""
    with StoreWriter(path) as writer:
        for count, (walk, own) in enumerate(zip(walks, numbers, strict=True)):
            frames = np.zeros((1 + count % 3, 64, 44), np.uint8)
            frames[0].reshape(-1)[:32] = own.reshape(-1)
            writer.append(walk.subject, walk.condition, walk.view, frames)
    return Store(path)


@pytest.fixture(scope="module")
def people() -> tuple[Array, list[Walk]]:
    """Four people as CASIA-B has them, their embeddings whole numbers about a centre of each."""
    embeddings, walks = draw(4, VIEWS, noise=0.2)
    return (128 + 20 * embeddings).round().clip(1, 255).astype(np.float32), walks


@pytest.fixture(scope="module")
def store(people: tuple[Array, list[Walk]], tmp_path_factory: pytest.TempPathFactory) -> Store:
    numbers, walks = people
    return stored(tmp_path_factory.mktemp("walks") / "store", walks, numbers)


def name(walk: Walk) -> str:
    return f"{walk.subject}/{walk.condition}/{walk.view}"


def distance(a: Array, b: Array) -> float:
    """Sec. 3.4: the mean over the parts of the Euclidean distance."""
    return float(np.sqrt(((a.astype(float) - b) ** 2).sum(axis=1)).mean())


def test_an_engine_agrees_with_itself(store: Store, people: tuple[Array, list[Walk]]) -> None:
    numbers, walks = people
    found = verify(Known(), Known(), store)
    assert found.sequences == len(walks) == 4 * len(CONDITIONS) * 2
    assert [(part.mean, part.minimum) for part in found.parts] == [(1, 1)] * 4
    assert (found.mean_cosine, found.minimum_cosine) == (1, 1)
    assert found.distance is not None
    assert (found.distance.change, found.distance.relative) == (0, 0)
    pairs = [distance(a, b) for a, b in itertools.combinations(numbers, 2)]
    assert found.distance.mean_distance == pytest.approx(np.mean(pairs), rel=1e-6)
    expected = evaluate_embeddings(numbers, walks)
    assert found.protocol == "casia-b"
    assert [(each.probe_set, each.first, each.change) for each in found.rank1] == [
        (name, figures.all_probes.mean, 0) for name, figures in expected.probe_sets.items()
    ]
    assert found.no_rank1 is None


def test_a_scale_leaves_cosines_and_ranks_and_changes_distances(
    store: Store, people: tuple[Array, list[Walk]]
) -> None:
    """Twice as long: the two sequences that are farthest apart change most, by their distance."""
    numbers, walks = people
    found = verify(Known(), Known(lambda made: 2 * made), store)
    assert found.minimum_cosine == pytest.approx(1, abs=1e-12)
    i, j = max(
        itertools.combinations(range(len(walks)), 2), key=lambda ij: distance(numbers[ij[0]], numbers[ij[1]])
    )
    largest = distance(numbers[i], numbers[j])
    assert found.distance is not None
    assert found.distance.pair == (name(walks[i]), name(walks[j]))
    assert found.distance.first == pytest.approx(largest, rel=1e-6)
    assert found.distance.second == pytest.approx(2 * largest, rel=1e-6)
    assert found.distance.change == pytest.approx(largest, rel=1e-6)
    mean = np.mean([distance(a, b) for a, b in itertools.combinations(numbers, 2)])
    assert found.distance.mean_distance == pytest.approx(mean, rel=1e-6)
    assert found.distance.relative == pytest.approx(largest / mean, rel=1e-6)
    assert [each.change for each in found.rank1] == [0, 0, 0]


def test_permuted_features_leave_distances_and_change_cosines(store: Store) -> None:
    found = verify(Known(), Known(lambda made: made[:, :, ::-1]), store)
    assert found.distance is not None
    assert found.distance.relative == pytest.approx(0, abs=1e-6)
    assert found.mean_cosine < 0.999
    assert [each.change for each in found.rank1] == [0, 0, 0]


def test_one_broken_part_is_found(store: Store, people: tuple[Array, list[Walk]]) -> None:
    """Part 2 turned round: its cosine is -1, that of the others 1; distances stay."""
    found = verify(Known(), Known(lambda made: made * np.array([1, 1, -1, 1])[:, None]), store)
    assert [part.mean for part in found.parts] == pytest.approx([1, 1, -1, 1])
    assert (found.minimum_cosine, found.minimum_part) == (pytest.approx(-1), 2)
    assert found.mean_cosine == pytest.approx(0.5)
    assert found.distance is not None
    assert found.distance.change == 0


def test_the_worst_sequence_and_pair_are_named(store: Store, people: tuple[Array, list[Walk]]) -> None:
    """One sequence's part 1 becomes all zeros, and so its own neighbours change."""
    numbers, walks = people
    odd = 37

    def change(made: Array) -> Array:
        made = made.copy()
        made[(made == numbers[odd]).all(axis=(1, 2)), 1] = 0
        return made

    found = verify(Known(), Known(change), store)
    assert (found.minimum_at, found.minimum_part, found.minimum_cosine) == (name(walks[odd]), 1, 0)
    assert found.parts[1].mean == pytest.approx(1 - 1 / len(walks))
    changed = change(numbers)
    other = max(
        (i for i in range(len(walks)) if i != odd),
        key=lambda i: abs(distance(numbers[i], changed[odd]) - distance(numbers[i], numbers[odd])),
    )
    assert found.distance is not None
    assert set(found.distance.pair) == {name(walks[odd]), name(walks[other])}
    difference = distance(numbers[other], changed[odd]) - distance(numbers[other], numbers[odd])
    assert found.distance.second - found.distance.first == pytest.approx(difference, rel=1e-5)


def test_rank1_by_condition(store: Store, people: tuple[Array, list[Walk]]) -> None:
    """An engine that takes one subject's coats for another's: CL falls by a quarter, nothing else."""
    numbers, walks = people

    def change(made: Array) -> Array:
        made = made.copy()
        own, theirs = (walks.index(Walk(subject, "nm-01", "000")) for subject in ("000", "003"))
        for number, walk in enumerate(walks):
            if walk.subject == "000" and walk.condition.startswith("cl"):
                made[(made == numbers[number]).all(axis=(1, 2))] += numbers[theirs] - numbers[own]
        return made

    found = {each.probe_set: each for each in verify(Known(), Known(change), store).rank1}
    assert [found[name].first for name in ("NM", "BG", "CL")] == [1, 1, 1]
    assert [found[name].change for name in ("NM", "BG", "CL")] == pytest.approx([0, 0, -0.25])


@pytest.mark.parametrize("block", [1, 7, 1024])
def test_blocks_of_any_size_find_the_same(
    block: int, people: tuple[Array, list[Walk]], monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers, walks = people
    noise = np.random.default_rng(0).standard_normal(numbers.shape).astype(np.float32)
    steps: list[tuple[int, int, str]] = []
    monkeypatch.setattr(agreement, "ROWS", block)
    found = compare_embeddings(numbers, numbers + noise, walks, progress=lambda *step: steps.append(step))
    changes = {
        (name(walks[i]), name(walks[j])): abs(
            distance(numbers[i] + noise[i], numbers[j] + noise[j]) - distance(numbers[i], numbers[j])
        )
        for i, j in itertools.combinations(range(len(walks)), 2)
    }
    assert found.distance is not None
    assert found.distance.pair == max(changes, key=changes.__getitem__)
    assert found.distance.change == pytest.approx(max(changes.values()), rel=1e-4)
    total = len(changes)
    assert steps[-1] == (total, total, "comparing")


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("which", ["first", "second"])
def test_what_is_not_finite_is_an_error(
    value: float, which: str, store: Store, people: tuple[Array, list[Walk]]
) -> None:
    numbers, walks = people

    def change(made: Array) -> Array:
        made = made.copy()
        made[(made == numbers[11]).all(axis=(1, 2)), 3, 7] = value
        return made

    engines = [Known(change), Known()] if which == "first" else [Known(), Known(change)]
    with pytest.raises(InputError, match=f"the {which} engine is broken.* of 1 of 80 .*{name(walks[11])}"):
        verify(*engines, store)


def test_a_store_without_a_gallery_has_no_rank1(tmp_path: Path, people: tuple[Array, list[Walk]]) -> None:
    numbers, walks = people
    chosen = [number for number, walk in enumerate(walks) if walk.condition == "nm-05"]
    found = verify(
        *(Known(), Known(lambda made: made + 1)),
        stored(tmp_path / "probes", [walks[number] for number in chosen], numbers[chosen]),
    )
    assert found.sequences == 8
    assert (found.protocol, found.rank1) == (None, ())
    assert found.no_rank1 == "no gallery for CASIA-B's protocol: there is no nm-01, nm-02, nm-03 or nm-04"
    assert found.distance is not None
    assert found.distance.change == pytest.approx(0, abs=1e-4)


def test_one_sequence_has_no_distance(tmp_path: Path, people: tuple[Array, list[Walk]]) -> None:
    numbers, walks = people
    found = verify(Known(), Known(), stored(tmp_path / "one", walks[:1], numbers[:1]))
    assert (found.sequences, found.distance) == (1, None)
    (cosines,) = tables(found, "a", "b")
    assert cosines.notes[1].startswith("No rank-1: no probes for CASIA-B's protocol")


def test_sequences_that_are_all_alike_have_no_relative_change() -> None:
    walks = [Walk("1", "x", "000"), Walk("2", "x", "000")]
    zeros = np.zeros((2, 1, 3), np.float32)
    found = compare_embeddings(zeros, zeros, walks)
    assert found.minimum_cosine == 1
    assert found.distance is not None
    assert (found.distance.change, found.distance.relative) == (0, None)


def test_some_subjects_and_the_progress(store: Store) -> None:
    steps: list[tuple[int, int, str]] = []
    found = verify(Known(), Known(), store, subjects="000,002", progress=lambda *step: steps.append(step))
    assert found.sequences == 40
    assert [done for done, total, what in steps if (total, what) == (80, "embedding")][-1] == 80
    assert steps[-1] == (780, 780, "comparing")


def test_what_cannot_be_compared(store: Store) -> None:
    with pytest.raises(InputError, match="two networks"):
        verify(Known(), Known(config=GaitPartConfig(parts=4, embedding_dim=8)), store)
    with pytest.raises(InputError, match="unknown protocol 'casia'"):
        verify(Known(), Known(), store, protocol="casia")
    with pytest.raises(InputError, match="no subject '9'"):
        verify(Known(), Known(), store, subjects="9")
    ones = np.ones((2, 4, 8), np.float32)
    with pytest.raises(InputError, match="unknown protocol 'casia'"):
        compare_embeddings(ones, ones, [Walk("1", "x", "000")] * 2, "casia")
    with pytest.raises(InputError, match=r"not \[2, 4, 8\] and \[1, 4, 8\]"):
        compare_embeddings(ones, ones[:1], [Walk("1", "x", "000")] * 2)


def test_targets_are_named_as_the_bundle_names_them(store: Store, tmp_path: Path) -> None:
    """So that a name which was printed can be asked for."""
    pytest.importorskip("openvino")
    path = tmp_path / "box.gait"
    bundle_of(CONFIG).save(path)
    names, first = verify_targets(path, store.path)
    assert names == ("letter", "cpu-fp32")
    again, second = verify_targets(path, store.path, ", ".join(names))
    assert (again, second) == (names, first)
    bundle_of(CONFIG, target="portable", engine="any").save(path)
    assert verify_targets(path, store.path)[0] == ("letter", "openvino-fp32")


def test_tables_and_json(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    found = verify(Known(), Known(lambda made: 2 * made), store, protocol="casia-b")
    cosines, change, rank1 = tables(found, "cpu-fp32", "cpu-bf16")
    assert cosines.title == "Cosine by part: cpu-bf16 against cpu-fp32, 80 sequences"
    assert [row[0] for row in cosines.rows] == [0, 1, 2, 3, "all"]
    assert cosines.rows[-1][1:] == ["1.000000", "1.000000"]
    assert change.columns[1:3] == ["cpu-fp32", "cpu-bf16"]
    assert found.distance is not None
    assert float(str(change.rows[0][-1])) == pytest.approx(100 * (found.distance.relative or 0), rel=0.05)
    assert rank1.title == "Rank-1 in %, CASIA-B's protocol"
    assert list(rank1.rows) == [[name, "100.00", "100.00", "+0.00"] for name in ("NM", "BG", "CL")]
    print_json(found)
    printed = json.loads(capsys.readouterr().out)
    assert printed["rank1"][0] == {"probe_set": "NM", "first": 1.0, "second": 1.0, "change": 0.0}
    assert len(printed["parts"]) == 4
