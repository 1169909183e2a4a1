from __future__ import annotations

import dataclasses
import importlib.util
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graphs import run
from networks import random_silhouettes, random_weights
from numpy.typing import NDArray

from gaitedge.calibration import study
from gaitedge.calibration.calibration import Calibration
from gaitedge.calibration.correction import apply_factors
from gaitedge.calibration.sensitivity import Sensitivity, find_sensitivity, tables
from gaitedge.calibration.study import Change
from gaitedge.config import GaitPartConfig
from gaitedge.data.store import Store, StoreWriter
from gaitedge.engines import Engine, load
from gaitedge.errors import InputError, MissingPackage
from gaitedge.evaluation import evaluate_embeddings
from gaitedge.export.graph import Plan, build_graph
from gaitedge.export.plan import layer_names
from gaitedge.weights import fingerprint

SMALL = GaitPartConfig(channels=(4, 8), strips=(1, 2, 3, 4), parts=4, embedding_dim=8)
WEIGHTS = random_weights(SMALL, 0)
FCONVS = ("fconv1", "fconv2", "fconv3", "fconv4")
HEAD = tuple(layer for layer in layer_names(SMALL) if layer not in FCONVS)
RANGES = {layer: 255.0 if layer == "fconv1" else 4.0 for layer in layer_names(SMALL)}
BLIND = 1e6  # a range in which everything that is read becomes 0
CONDITIONS = ("nm-01", "nm-02", "nm-05", "bg-01", "cl-01", "xx-09")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Four subjects that look different, at two views; the condition xx-09 is of no protocol."""
    path = tmp_path_factory.mktemp("walks") / "store"
    with StoreWriter(path) as writer:
        for subject in range(4):
            own = random_silhouettes(1, 6, subject)[0]
            for number, condition in enumerate(CONDITIONS):
                for view in range(2):
                    seed = 100 * subject + 10 * number + view
                    noisy = np.random.default_rng(seed).random(own.shape) < 0.02
                    walk = np.where(noisy, 255 - own, own)[: 4 + number % 3]
                    writer.append(f"{subject:03}", condition, f"{90 * view:03}", walk)
    return Store(path)


def calibration(ranges: dict[str, float] | None = None, **fields: Any) -> Calibration:
    fields = {"floating": HEAD, **fields}
    return Calibration(fingerprint(SMALL, WEIGHTS), "0" * 64, "minmax", 1, RANGES | (ranges or {}), **fields)


@pytest.fixture
def onnxruntime_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine on which OpenVINO is not installed."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *rest: None if name == "openvino" else find(name, *rest)
    )


def find(store: Store, given: Calibration, subjects: str = "all", **options: Any) -> Sensitivity:
    return find_sensitivity(SMALL, WEIGHTS, given, store, subjects, threads=1, **options)


@pytest.fixture(scope="module")
def spoilt(store: Store) -> Sensitivity:
    """With a budget, of a network that one layer in int8 makes blind; with OpenVINO where it is installed."""
    return find(store, calibration({"fconv3": BLIND}), max_drop=0.3)


def stated(
    store: Store,
    found: Calibration,
    layers: tuple[str, ...],
    subjects: tuple[str, ...] = ("000", "001", "002", "003"),
) -> Change:
    """The figures by their definitions, in ONNX Runtime."""
    numbers = [
        n for n, walk in enumerate(store.sequences) if walk.condition != "xx-09" and walk.subject in subjects
    ]
    groups = itertools.groupby((store[n] for n in numbers), key=len)
    same_length = [list(walks) for _, walks in groups]
    scales = tuple((layer, scale) for layer, scale in found.scales() if layer in layers)
    biases = {layer: np.array(bias, np.float32) for layer, bias in found.biases.items() if layer in layers}
    equal = apply_factors(SMALL, WEIGHTS, found.factors)
    graphs = build_graph(SMALL, WEIGHTS), build_graph(SMALL, equal, Plan(scales=scales), biases)
    exact, got = (
        np.concatenate([run(graph, np.stack(walks))[0] for walks in same_length]) for graph in graphs
    )
    lengths = np.linalg.norm(exact, axis=2) * np.linalg.norm(got, axis=2)
    cosines = (exact * got).sum(axis=2) / lengths
    walks = [store.sequences[n] for n in numbers]
    before, after = (
        {name: one.all_probes.mean for name, one in evaluate_embeddings(made, walks).probe_sets.items()}
        for made in (exact, got)
    )
    return Change(
        float(np.abs(got - exact).max() / np.abs(exact).max()),
        float(cosines.mean()),
        float(cosines.min()),
        after,
        {name: 100 * (after[name] - before[name]) for name in after},
    )


def assert_same(found: Change | None, wanted: Change) -> None:
    assert found is not None
    assert found.relative_error == pytest.approx(wanted.relative_error, rel=1e-3)
    assert found.mean_cosine == pytest.approx(wanted.mean_cosine, abs=1e-5)
    assert found.minimum_cosine == pytest.approx(wanted.minimum_cosine, abs=1e-5)
    assert found.rank1 == wanted.rank1
    assert found.change == pytest.approx(wanted.change)


# Each layer ---------------------------------------------------------------------------------------


GIVEN = calibration(
    {"fconv3": 0.5},
    factors={"fconv1": (0.5, 1.0, 0.25, 1.0)},
    biases={"fconv2": (0.1, 0.0, -0.1, 0.0), "fconv4": (0.05,) * 8},
)


@pytest.mark.usefixtures("onnxruntime_alone")
def test_figures_are_those_of_their_definitions(store: Store) -> None:
    found = find(store, GIVEN)
    assert (found.sequences, found.protocol, found.fp32.keys()) == (40, "casia-b", {"NM", "BG", "CL"})
    assert [one.layer for one in found.layers] == list(FCONVS)
    assert_same(found.together, stated(store, GIVEN, FCONVS))
    for one in found.layers[1:3]:
        assert_same(one.alone, stated(store, GIVEN, (one.layer,)))
        rest = tuple(layer for layer in FCONVS if layer != one.layer)
        assert_same(one.others, stated(store, GIVEN, rest))


def test_openvino_gives_the_same_figures(store: Store) -> None:
    pytest.importorskip("openvino")
    given = dataclasses.replace(GIVEN, floating=(*HEAD, "fconv1", "fconv4"))
    found = find(store, given, "000-001")
    wanted = stated(store, given, ("fconv2", "fconv3"), ("000", "001"))
    assert found.together.mean_cosine == pytest.approx(wanted.mean_cosine, abs=1e-3)
    assert found.together.relative_error == pytest.approx(wanted.relative_error, rel=0.1)
    assert found.together.rank1 == wanted.rank1


@pytest.mark.parametrize("right", [True, False])
def test_an_openvino_that_computes_something_else_is_not_believed(
    store: Store, right: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is what makes the embeddings where it gives what ONNX Runtime gives, and not where it does not."""
    used: dict[str, int] = {"openvino": 0, "onnxruntime": 0}

    class Counted:
        def __init__(self, engine: Engine, name: str) -> None:
            self._engine, self._name = engine, name
            self.config, self.largest_batch = engine.config, None

        def embed(self, silhouettes: NDArray[np.uint8]) -> NDArray[np.float32]:
            used[self._name] += len(silhouettes)
            found = self._engine.embed(silhouettes)
            found[:, -1] *= 1 if right or self._name == "onnxruntime" else -1
            return found

    def load_counted(bundle: Any, engine: str, *rest: Any) -> Any:
        # ONNX Runtime stands in for OpenVINO: what is asked is which one is taken.
        return Counted(load(bundle, "onnxruntime", *rest), engine)

    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name, *rest: "there" if name == "openvino" else find_spec(name, *rest),
    )
    monkeypatch.setattr(study, "load", load_counted)
    given = dataclasses.replace(GIVEN, floating=(*HEAD, "fconv1", "fconv4"))
    found = find(store, given, "000-001")
    networks, spots, walks = 4, 4, 20  # FP32, both layers, each of the two
    spent = {True: {"openvino": walks, "onnxruntime": 0}, False: {"openvino": 0, "onnxruntime": walks}}[right]
    assert used == {name: networks * (spots + count) for name, count in spent.items()}
    assert_same(found.together, stated(store, given, ("fconv2", "fconv3"), ("000", "001")))


@pytest.mark.usefixtures("onnxruntime_alone")
@pytest.mark.parametrize(("layers", "networks"), [(1, 2), (2, 4), (3, 8), (4, 11)])
def test_each_network_runs_once(store: Store, layers: int, networks: int) -> None:
    """FP32, all, each alone, each left out, and what of the frontier is not among them."""
    seen: list[tuple[int, int, str]] = []
    found = find(
        store,
        calibration(floating=(*HEAD, *FCONVS[layers:])),
        "000-001",
        max_drop=100.0,
        progress=lambda *call: seen.append(call),
    )
    assert {total for _, total, _ in seen} == {20 * networks}
    done = [done for done, _, _ in seen]
    assert done == sorted(set(done)), "one is told twice"
    assert done[-1] == 20 * networks
    assert [one.others is None for one in found.layers] == [layers == 1] * layers
    assert len(found.frontier) == layers


# The budget ---------------------------------------------------------------------------------------


def test_the_layer_that_spoils_rank1_is_kept(spoilt: Sensitivity) -> None:
    found = spoilt
    assert found.kept == ("fconv3",)
    assert [len(point.kept) for point in found.frontier] == [0, 1, 2, 3]
    first, second = found.frontier[:2]
    assert first.change == found.together
    assert first.change.drop > 20
    assert second.kept == found.kept
    assert second.change == found.layers[2].others
    assert second.change.drop <= 0.3
    assert all(point.median_ms > 0 for point in found.frontier)
    assert found.fp32_ms is not None
    assert found.fp32_ms > 0


@pytest.mark.usefixtures("onnxruntime_alone")
def test_nothing_is_kept_where_int8_is_within_the_budget(store: Store) -> None:
    found = find(store, calibration(), max_drop=0.0)
    assert found.kept == ()
    assert found.together.drop <= 0
    assert not any("-0.00" in str(cell) for row in tables(found)[2].rows for cell in row)


def test_the_drop_is_that_of_the_worst_probe_set() -> None:
    change = Change(0.0, 1.0, 1.0, {}, {"NM": 0.2, "BG": -0.4, "CL": None})
    assert change.drop == 0.4
    assert dataclasses.replace(change, change={"NM": 0.2}).drop == -0.2


@pytest.mark.usefixtures("onnxruntime_alone")
def test_a_budget_that_no_network_meets_is_said(store: Store) -> None:
    blind = dict.fromkeys(FCONVS, BLIND)
    with pytest.raises(InputError, match=r"within 0\.3 points.*fconv\d in int8; allow more") as caught:
        find(store, calibration(blind), "000-001", max_drop=0.3)
    assert "\n" not in str(caught.value)


# Tables -------------------------------------------------------------------------------------------


def test_tables_show_every_layer_and_every_point(spoilt: Sensitivity) -> None:
    alone, others, frontier = tables(spoilt)
    assert [row[0] for row in alone.rows] == [*FCONVS, "all"]
    assert [row[0] for row in others.rows] == list(FCONVS)
    assert [row[0] for row in frontier.rows] == [0, 1, 2, 3]
    assert [row[-1] for row in frontier.rows] == [None, "taken", None, None]
    for table in (alone, others, frontier):
        assert {len(row) for row in table.rows} == {len(table.columns)}
    worst = spoilt.together.change["NM"]
    assert alone.rows[-1][1] == f"{worst:+.2f}"
    assert spoilt.engine in frontier.notes[1]


@pytest.mark.usefixtures("onnxruntime_alone")
def test_without_a_budget_there_is_no_frontier(store: Store) -> None:
    found = find(store, calibration(floating=(*HEAD, *FCONVS[1:])), "000-001")
    assert (found.frontier, found.kept, found.max_drop) == ((), (), None)
    assert [len(table.rows) for table in tables(found)] == [2]


# Refusals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", [-0.1, float("nan"), float("inf")])
def test_an_impossible_budget_is_refused(store: Store, budget: float) -> None:
    with pytest.raises(InputError, match="0 percentage points or more"):
        find_sensitivity(SMALL, WEIGHTS, calibration(), store, max_drop=budget)


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (
            lambda store: find_sensitivity(SMALL, random_weights(SMALL, 1), calibration(), store),
            "other weights",
        ),
        (
            lambda store: find_sensitivity(SMALL, WEIGHTS, calibration(floating=tuple(RANGES)), store),
            "quantises no layer",
        ),
        (lambda store: find_sensitivity(SMALL, WEIGHTS, calibration(), store, "anna"), "no subject 'anna'"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    store: Store, start: Callable[[Store], Sensitivity], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        start(store)


def test_a_store_without_probes_is_refused(tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "store") as writer:
        writer.append("001", "nm-01", "000", random_silhouettes(1, 3, 0)[0])
    with pytest.raises(InputError, match="no probes"):
        find_sensitivity(SMALL, WEIGHTS, calibration(), Store(tmp_path / "store"))


def test_without_onnxruntime_the_command_that_installs_it_is_named(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr("gaitedge.errors.importlib.import_module", missing)
    with pytest.raises(MissingPackage, match=r"pip install 'gaitedge\[onnxruntime\]'"):
        find_sensitivity(SMALL, WEIGHTS, calibration(), store)
