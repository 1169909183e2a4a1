"""How far an engine is from the letter, measured by ourselves and through Polygraphy's comparator."""

from __future__ import annotations

import dataclasses
import importlib.util

import numpy as np
import pytest
from networks import random_weights
from numpy.typing import NDArray

from gaitedge.bundle import FOLD_GRAPH, make_bundle
from gaitedge.config import GaitPartConfig
from gaitedge.engines import Engine, load
from gaitedge.errors import MachineError
from gaitedge.export.agreement import (
    TOLERANCES,
    as_runner,
    check_agreement,
    compare,
    compare_runners,
    letter,
    measure,
    require_runner,
)
from gaitedge.export.graph import build_graph
from gaitedge.manifest import Agreement

SMALL = GaitPartConfig(channels=(4, 8, 12), parts=4, embedding_dim=8)
SHAPES = [(1, 1), (2, 9)]

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("polygraphy") is None or importlib.util.find_spec("onnxruntime") is None,
    reason="needs Polygraphy and ONNX Runtime",
)


@dataclasses.dataclass
class Scaled:
    """An engine whose embeddings are random, the same for every instance, times a factor."""

    factor: float
    name: str = "scaled"
    description: str = "a scaled engine; for a test"
    precision: str = "fp32"
    fingerprint: str = ""
    config: GaitPartConfig = SMALL
    largest_batch: int | None = None

    def embed(self, silhouettes: NDArray[np.uint8]) -> NDArray[np.float32]:
        rng = np.random.default_rng(silhouettes.shape[:2])
        return (rng.standard_normal((len(silhouettes), 4, 8)) * self.factor).astype(np.float32)


def engine() -> Engine:
    weights = random_weights(SMALL, 0)
    graph = build_graph(SMALL, weights).SerializeToString()
    return load(make_bundle(SMALL, weights, {FOLD_GRAPH: graph}, {}), "onnxruntime")


def test_agreement_is_what_it_says() -> None:
    same = compare(Scaled(1), Scaled(1))
    assert same == Agreement("a scaled engine", 0, 1)
    larger = compare(Scaled(1.25), Scaled(1))
    assert larger.relative_error == pytest.approx(0.25, rel=1e-5)
    assert larger.cosine == pytest.approx(1)
    opposite = compare(Scaled(-1), Scaled(1))
    assert opposite.relative_error == pytest.approx(2)
    assert opposite.cosine == pytest.approx(-1)
    nothing = compare(Scaled(0), Scaled(0))
    assert (nothing.relative_error, nothing.cosine) == (0, 1)
    assert compare(Scaled(0), Scaled(1)).cosine == 0


def test_a_fused_graph_agrees_with_the_letter_through_polygraphy(capfd: pytest.CaptureFixture[str]) -> None:
    """In ONNX Runtime through Polygraphy's own runner, and through one of our engines."""
    from polygraphy.backend.onnxrt import OnnxrtRunner, SessionFromOnnx

    weights = random_weights(SMALL, 0)
    graph = build_graph(SMALL, weights).SerializeToString()
    runners = [OnnxrtRunner(SessionFromOnnx(graph, providers=["cpu"])), as_runner(engine())]
    found = compare_runners(runners, letter(SMALL, weights), "fp32", SHAPES)
    assert 0 <= found.relative_error < 1e-5
    assert found.cosine > 0.99999
    assert found.reference.startswith("ONNX Runtime ")
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")  # stdout is for one JSON document


def test_the_worst_runner_counts() -> None:
    found = compare_runners([as_runner(Scaled(1 + 2**-14)), as_runner(Scaled(1))], Scaled(1), "fp32", SHAPES)
    assert found.relative_error == pytest.approx(2**-14, rel=1e-3)


@pytest.mark.parametrize("factor", [1.001, -1, 0, float("nan"), float("inf")])
@pytest.mark.parametrize("bad", [0, 1])
def test_a_runner_that_disagrees_is_refused_by_name(factor: float, bad: int) -> None:
    good = dataclasses.replace(Scaled(1), description="the good one")
    wrong = dataclasses.replace(Scaled(factor), description="the wrong one")
    runners = [as_runner(good), as_runner(good)]
    runners[bad] = as_runner(wrong)
    with np.errstate(invalid="ignore"), pytest.raises(MachineError, match=r"^the wrong one does not compute"):
        compare_runners(runners, Scaled(1), "fp32", SHAPES)


def test_a_runner_that_does_not_run_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    from polygraphy.backend.base import BaseRunner
    from polygraphy.logger import G_LOGGER

    class Broken(BaseRunner):  # type: ignore[misc]
        def activate_impl(self) -> None:
            G_LOGGER.critical("Could not deserialize\nthe engine")

    with pytest.raises(MachineError) as caught:
        compare_runners([Broken()], Scaled(1), "fp32", SHAPES)
    assert str(caught.value) == "the engine was built and does not run: Could not deserialize the engine"
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


@pytest.mark.parametrize("error", [OSError("libcudart.so: cannot open"), None])
def test_polygraphy_without_cudas_runtime_is_told_before_a_build(
    error: Exception | None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import polygraphy.cuda
    from polygraphy.exception import PolygraphyException

    def absent() -> None:
        raise error or PolygraphyException("no CUDA")

    monkeypatch.setattr(polygraphy.cuda, "wrapper", absent)
    with pytest.raises(MachineError, match=r"Polygraphy finds no libcudart\.so; install") as caught:
        require_runner()
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(polygraphy.cuda, "wrapper", lambda: None)
    require_runner()
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


def test_tolerances_grow_as_precisions_shrink() -> None:
    have = [TOLERANCES[name] for name in ("fp32", "fp16", "bf16")]
    assert [one.relative_error for one in have] == sorted(one.relative_error for one in have)
    assert [one.cosine for one in have] == sorted((one.cosine for one in have), reverse=True)
    check_agreement("an engine", "fp16", Agreement("x", 5e-3, 0.99999))
    with pytest.raises(MachineError, match=r"an engine does not compute this network.*nothing was written$"):
        check_agreement("an engine; as asked", "fp32", Agreement("x", 5e-3, 0.99999))
    with pytest.raises(MachineError, match="nothing was written; take a higher precision, as in --precision"):
        check_agreement("an engine", "fp16", Agreement("x", 6e-3, 0.99999))


@pytest.mark.filterwarnings("error")
def test_infinite_embeddings_agree_with_nothing_and_warn_of_nothing() -> None:
    """As FP16 gives them where it overflows: what is said of it is one line."""
    wanted = np.ones((2, 3, 4), np.float32)
    for bad in (np.inf, -np.inf, np.nan):
        found = wanted.copy()
        found[1, 2, 3] = bad
        with pytest.raises(MachineError, match="does not compute this network"):
            check_agreement("an engine", "fp16", measure([found], [wanted], "x"))
        with pytest.raises(MachineError, match="does not compute this network"):
            check_agreement("an engine", "fp16", measure([found], [found], "x"))
