"""A plan that was built with plugins: their library is loaded before it, and named where it is missing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bundles import SMALL
from gpu_box import PLAN, GpuBox, right
from networks import random_silhouettes, random_weights
from tensorrt_fake import VERSIONS

from gaitedge.bundle import make_bundle
from gaitedge.engines.tensorrt import TensorRTEngine
from gaitedge.errors import BundleError, MachineError
from gaitedge.export.graph import Plan, build_graph, without_functions
from gaitedge.machine import kernels
from gaitedge.machine import tensorrt as machine

LIBRARY = {("GaitEdgeFocalConv", "1", "gaitedge"), ("GaitEdgePartPool", "1", "gaitedge")}
MakeBox = Callable[..., GpuBox]


@pytest.fixture(autouse=True)
def nothing_loaded() -> Iterator[None]:
    machine._load_library.cache_clear()
    yield
    machine._load_library.cache_clear()


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "find_plugins", lambda major: Path(f"/lib/plugins_{major}.so"))


def engine_of(box: GpuBox, plan: Plan, data: bytes | None = None) -> TensorRTEngine:
    """An engine that was built from the graph of a plan; data: in the place of TensorRT's plan."""
    bundle, target = box.bundle(data)
    model = build_graph(SMALL, random_weights(SMALL, 0), plan)
    assert target.build is not None
    graphs = {
        PLAN: bundle.read(PLAN),
        target.build.graph: without_functions(model).SerializeToString(deterministic=True),
    }
    bundle = make_bundle(SMALL, random_weights(SMALL, 0), graphs, {"tensorrt-fp16": target})
    engine = TensorRTEngine(bundle, target, "as asked")
    box.engines.add(engine)
    return engine


@pytest.mark.parametrize("version", VERSIONS)
def test_it_is_loaded_before_the_plan_and_once(make_box: MakeBox, found: None, version: str) -> None:
    box = make_box(version)
    box.recorded.library = set(LIBRARY)
    engines = [engine_of(box, Plan("plugin")) for _ in range(2)]
    assert box.recorded.libraries == [f"/lib/plugins_{version.partition('.')[0]}.so"]
    assert box.recorded.calls[:2] == ["Runtime", "load_library"]
    assert all(right(engine, random_silhouettes(1, 5, 0)) for engine in engines)


def test_a_plan_without_plugins_needs_none(box: GpuBox) -> None:
    assert right(engine_of(box, Plan()), random_silhouettes(2, 5, 0))
    assert box.recorded.libraries == []


def test_where_it_is_missing_the_command_is_named(box: GpuBox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAITEDGE_KERNELS", "/nowhere")
    with pytest.raises(MachineError, match=r"no /nowhere/libgaitedge_plugins.*run: gaitedge plugins build"):
        engine_of(box, Plan("plugin"))
    assert not box.recorded.engines


def test_one_that_does_not_load_is_named(box: GpuBox, found: None) -> None:
    with pytest.raises(MachineError, match=r"does not load the plugins of /lib/plugins_10\.so: cannot load"):
        engine_of(box, Plan("plugin"))
    assert not box.recorded.engines


def test_a_plan_that_it_does_not_serve_names_it(box: GpuBox, found: None) -> None:
    box.recorded.library = set(LIBRARY)
    with pytest.raises(BundleError) as caught:
        engine_of(box, Plan("plugin"), b"of other plugins")
    said = str(caught.value)
    assert f"cannot load {PLAN} with the plugins of /lib/plugins_10.so: magicTag" in said
    assert said.endswith("run: gaitedge export unsaved bundle --rebuild")


def test_the_version_that_runs_it_says_which_library(make_box: MakeBox, found: None) -> None:
    """Not the one that built it: a plan of TensorRT 10 that 11 runs has 11's plugins."""
    box = make_box("11.4.0.106")
    box.recorded.library = set(LIBRARY)
    bundle, target = box.bundle({"flags": ["VERSION_COMPATIBLE"]})
    assert target.build is not None
    versions = {**target.build.versions, "tensorrt": "10.3.0"}
    options = {"version_compatible": True}
    build = dataclasses.replace(target.build, versions=versions, options=options)
    model = build_graph(SMALL, random_weights(SMALL, 0), Plan("plugin"))
    graphs = {PLAN: bundle.read(PLAN), build.graph: without_functions(model).SerializeToString()}
    target = dataclasses.replace(target, build=build)
    bundle = make_bundle(SMALL, random_weights(SMALL, 0), graphs, {"tensorrt-fp16": target})
    box.engines.add(TensorRTEngine(bundle, target, "as asked"))
    assert box.recorded.libraries == ["/lib/plugins_11.so"]
