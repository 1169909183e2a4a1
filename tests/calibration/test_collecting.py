from __future__ import annotations

import importlib.util
import itertools
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import run
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from small_walks import SMALL, SUBJECTS, WEIGHTS, make_store, some_walk

from gaitedge.calibration.collecting import choose, collect, fingerprint_shown, show
from gaitedge.calibration.observers import Histogram
from gaitedge.data.store import Store
from gaitedge.errors import MissingPackage
from gaitedge.export.graph import build_graph


def same(first: dict[str, Histogram], second: dict[str, Histogram]) -> bool:
    return first.keys() == second.keys() and all(
        (first[layer].counts == second[layer].counts).all()
        and first[layer].exponent == second[layer].exponent
        and first[layer].largest == second[layer].largest
        for layer in first
    )


# Choosing -----------------------------------------------------------------------------------------


class Grid:
    """A store's index alone: every subject, condition and view that there is."""

    def __init__(self, subjects: int, conditions: int, views: int) -> None:
        from gaitedge.data.store import Sequence

        self.sequences = [
            Sequence(f"{s:03}", f"{kind}-{c:02}", f"{v:03}", 0, 1)
            for s in range(subjects)
            for kind in ("nm", "bg")
            for c in range(conditions)
            for v in range(views)
        ]

    def select(self, subjects: set[str]) -> list[int]:
        return [number for number, one in enumerate(self.sequences) if one.subject in subjects]


@given(st.integers(1, 6), st.integers(1, 4), st.integers(1, 6), st.integers(1, 100), st.integers(0, 99))
def test_views_conditions_and_subjects_are_chosen_equally_often(
    subjects: int, conditions: int, views: int, count: int, seed: int
) -> None:
    grid = Grid(subjects, conditions, views)
    chosen = choose(grid, {one.subject for one in grid.sequences}, count, seed)  # type: ignore[arg-type]
    assert len({*chosen}) == len(chosen) == min(count, len(grid.sequences))
    walks = [grid.sequences[number] for number in chosen]
    views_seen = Counter(walk.view for walk in walks)
    assert max(views_seen.values()) - min(views_seen[f"{v:03}"] for v in range(views)) <= 1
    kinds = Counter(walk.condition[:2] for walk in walks)
    # A view whose walks of a kind are all taken gives those of the other.
    assert abs(kinds["nm"] - kinds["bg"]) <= 1 + views


def test_a_choice_from_many_is_equal_in_every_respect() -> None:
    grid = Grid(20, 5, 11)
    for count in (10, 66, 220, 500):
        walks = [grid.sequences[number] for number in choose(grid, {f"{s:03}" for s in range(20)}, count)]  # type: ignore[arg-type]
        for key, of in (("view", 11), ("subject", 20)):
            found = Counter(getattr(walk, key) for walk in walks)
            assert {*found.values()} <= {count // of, -(-count // of)}, (key, count)
        assert Counter(walk.condition[:2] for walk in walks) == {"nm": -(-count // 2), "bg": count // 2} or (
            Counter(walk.condition[:2] for walk in walks) == {"bg": -(-count // 2), "nm": count // 2}
        )


def test_a_choice_follows_from_the_seed(store: Path) -> None:
    data = Store(store)
    assert choose(data, SUBJECTS, 20, 1) == choose(data, SUBJECTS, 20, 1)
    assert choose(data, SUBJECTS, 20, 1) != choose(data, SUBJECTS, 20, 2)
    assert choose(data, SUBJECTS, 20, 1) == choose(data, SUBJECTS, 30, 1)[:20]
    assert {data.sequences[number].subject for number in choose(data, ["002"], 99)} == {"002"}


def test_consecutive_frames_are_shown_from_a_place_that_the_seed_gives(store: Path) -> None:
    data, starts = Store(store), set()
    for number, seed in itertools.product(range(len(data)), range(3)):
        shown = show(data, number, 4, seed)
        assert len(shown) == min(4, len(data[number]))
        found = [
            start
            for start in range(len(data[number]) - len(shown) + 1)
            if (data[number][start : start + len(shown)] == shown).all()
        ]
        assert len(found) == 1
        starts.add(found[0])
        assert (show(data, number, 4, seed) == shown).all()
    assert starts == {0, 1, 2, 3, 4}


# Collecting ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_what_each_layer_reads_is_counted(runtime: str, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the quantisers of an INT8 graph: it is their inputs that are to be known."""
    if importlib.util.find_spec(runtime) is None:
        pytest.skip(f"needs {runtime}")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == runtime or None)
    data, numbers = Store(store), [4, 30, 7]
    found = collect(SMALL, WEIGHTS, data, numbers, frames=5, threads=1)

    from gaitedge.export.graph import Plan
    from gaitedge.export.plan import layer_names

    layers = layer_names(SMALL)
    scaled = build_graph(SMALL, WEIGHTS, Plan(scales=tuple((layer, 1.0) for layer in layers)))
    read = {
        layer: sorted(
            {
                node.input[0]
                for node in scaled.graph.node
                if node.name.endswith(".input.quantize") and node.name.startswith(f"{layer}.")
            }
        )
        for layer in layers
    }
    plain = build_graph(SMALL, WEIGHTS)
    tensors = sorted({name for names in read.values() for name in names})
    plain.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in tensors)
    expected = {layer: Histogram() for layer in layers}
    for number in numbers:
        outputs = run(plain, show(data, number, 5)[None], *tensors)
        values = dict(zip(tensors, outputs, strict=True))
        for layer, names in read.items():
            for name in names:
                expected[layer].add(values[name])
    assert expected.pop("fconv1").largest == 255  # by definition, and not asked
    assert found.keys() == expected.keys()
    for layer, histogram in found.items():
        assert histogram.total == expected[layer].total > 0
        assert histogram.largest == pytest.approx(expected[layer].largest, rel=1e-5)
        if runtime == "onnxruntime":  # the values are the same; of another's a few are in the next bin
            assert abs(histogram.counts - expected[layer].counts).sum() <= 1e-3 * histogram.total


def test_the_order_of_the_sequences_does_not_matter(store: Path) -> None:
    numbers, data = [*range(12)], Store(store)
    forth = collect(SMALL, WEIGHTS, data, numbers, threads=1)
    assert same(forth, collect(SMALL, WEIGHTS, data, numbers[::-1], threads=1))
    assert not same(forth, collect(SMALL, WEIGHTS, data, numbers[1:], threads=1))


def test_progress_is_told_for_every_sequence(store: Path) -> None:
    told: list[tuple[int, int]] = []
    collect(SMALL, WEIGHTS, Store(store), [1, 2, 3], progress=lambda *each: told.append(each))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_the_fingerprint_is_of_the_names_and_of_every_frame_that_is_shown(
    store: Path, tmp_path: Path
) -> None:
    data = Store(store)
    prints = {
        fingerprint_shown(data, numbers, frames)
        for numbers, frames in (([1, 2], 5), ([2, 1], 5), ([1], 5), ([1, 2], 3))
    }
    assert len(prints) == 4
    (tmp_path / "again").mkdir()
    assert fingerprint_shown(Store(make_store(tmp_path / "again" / "copy")), [1, 2], 5) in prints

    def altered(number: int) -> NDArray[np.uint8]:
        walk = some_walk(number)
        walk[0, 0, 0] ^= number == 2
        return walk

    other = fingerprint_shown(Store(make_store(tmp_path / "altered", altered)), [1, 2], 9)
    assert other != fingerprint_shown(data, [1, 2], 9)


def test_memory_does_not_grow_with_the_sequences(store: Path) -> None:
    def peak(numbers: list[int]) -> int:
        tracemalloc.start()
        try:
            collect(SMALL, WEIGHTS, Store(store), numbers, frames=3, threads=1)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak([1])  # what is loaded once
    assert peak([1, 2] * 60) <= 1.1 * peak([1, 2]) + 50_000


def test_without_a_runtime_it_is_said_how_to_get_one(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingPackage, match=r"calibration needs ONNX Runtime or OpenVINO.*gaitedge\[cpu\]"):
        collect(SMALL, WEIGHTS, Store(store), [1])
