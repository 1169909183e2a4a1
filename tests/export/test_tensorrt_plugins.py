"""A graph with plugin nodes: their library is loaded first, and named where it is missing or lacks one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from networks import random_weights
from tensorrt_fake import VERSIONS, Recorded

from gaitedge.config import GaitPartConfig
from gaitedge.errors import InputError, MachineError
from gaitedge.export.build_options import BuildOptions
from gaitedge.export.graph import Plan, build_graph, without_functions
from gaitedge.export.tensorrt import build
from gaitedge.machine import kernels
from gaitedge.machine.tensorrt import load_plugins

SMALL = GaitPartConfig(channels=(4, 8, 12), parts=4, embedding_dim=8)
NAMES = ("GaitEdgeFocalConv", "GaitEdgePartPool", "GaitEdgeMicroMotion", "GaitEdgeFrameNetwork")
LIBRARY = {(name, "1", "gaitedge") for name in NAMES}


@pytest.fixture(params=VERSIONS)
def recorded(request: pytest.FixtureRequest, install: Callable[..., Recorded]) -> Recorded:
    return install(request.param)


@pytest.fixture
def found(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> Recorded:
    """The library is there, for each major version its own."""
    recorded.library = set(LIBRARY)
    monkeypatch.setattr(kernels, "find_plugins", lambda major: Path(f"/lib/plugins_{major}.so"))
    return recorded


def graph(plan: Plan, config: GaitPartConfig = SMALL) -> bytes:
    model = build_graph(config, random_weights(config, 0), plan)
    return without_functions(model).SerializeToString()


WITH_PLUGINS = (Plan("plugin"), Plan("fold", "plugin"), Plan("plugin", "plugin", "fp16"))


def failing(graph: bytes) -> str:
    """The one line of a build that fails."""
    with pytest.raises(MachineError) as caught:
        build(graph, "fp32")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("plan", WITH_PLUGINS, ids=str)
def test_the_library_is_loaded_before_the_graph_is_read(found: Recorded, plan: Plan) -> None:
    assert build(graph(plan), plan.precision).plan
    assert found.libraries == [f"/lib/plugins_{found.version.partition('.')[0]}.so"]
    assert found.calls == ["Builder", "load_library", "OnnxParser", "Runtime"]


def test_two_plugins_are_all_that_the_paper_s_network_needs(found: Recorded) -> None:
    config = GaitPartConfig()
    found.library = {each for each in LIBRARY if each[0] in ("GaitEdgeFrameNetwork", "GaitEdgeMicroMotion")}
    assert build(graph(Plan("network", "plugin", "fp16"), config), "fp16").plan


def test_it_is_loaded_once_a_process(found: Recorded) -> None:
    """A second load fails, in TensorRT as here."""
    bare = graph(Plan("plugin"))
    threads = [threading.Thread(target=build, args=(bare, "fp32")) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert build(bare, "fp32").plan
    assert len(found.libraries) == 1


@pytest.mark.parametrize("plan", [Plan(), Plan("split", "per_part", "fp16")], ids=str)
def test_without_plugins_nothing_is_looked_for(recorded: Recorded, plan: Plan) -> None:
    assert build(graph(plan), plan.precision).plan
    assert recorded.libraries == []


def test_where_it_is_missing_the_command_is_named(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GAITEDGE_KERNELS", "/nowhere")
    said = failing(graph(Plan("plugin")))
    assert "/nowhere/libgaitedge_plugins_trt" in said
    assert "run: gaitedge plugins build" in said
    assert recorded.libraries == []
    assert "OnnxParser" not in recorded.calls


def test_a_library_that_does_not_load_is_named(found: Recorded) -> None:
    found.library = set()
    library = f"/lib/plugins_{found.version.partition('.')[0]}.so"
    assert failing(graph(Plan("plugin"))) == (
        f"TensorRT {found.version} does not load the plugins of {library}: cannot load {library}; "
        "build them anew: gaitedge plugins build --tensorrt-include FOLDER"
    )
    found.library = set(LIBRARY)
    assert build(graph(Plan("plugin")), "fp32").plan  # a failure is not kept


def test_one_that_somebody_else_loaded_is_taken(found: Recorded) -> None:
    found.plugins |= LIBRARY
    assert build(graph(Plan("plugin")), "fp32").plan
    assert found.libraries == []


def test_version_compatible_engines_have_no_plugins(found: Recorded) -> None:
    compatible = BuildOptions(version_compatible=True)
    with pytest.raises(InputError, match="cannot have plugins, whose library is for one major version"):
        build(graph(Plan("plugin")), "fp32", compatible)
    assert build(graph(Plan()), "fp32", compatible).plan


def test_a_library_that_lacks_a_plugin_is_named(found: Recorded) -> None:
    found.library = {("GaitEdgeFocalConv", "1", ""), ("GaitEdgePartPool", "1", "gaitedge")}
    said = failing(graph(Plan("plugin")))
    library = f"/lib/plugins_{found.version.partition('.')[0]}.so"
    assert said.startswith(
        f"TensorRT {found.version} knows no plugin GaitEdgeFocalConv (version 1, namespace 'gaitedge'); "
        f"{library} lacks it, and is loaded; build it anew: gaitedge plugins build --tensorrt-include FOLDER"
    )
    assert said.endswith("export a plan without plugins: --fconv fold --micro-motion grouped")
    assert "GaitEdgePartPool" not in said
    assert "OnnxParser" not in found.calls


def test_another_library_s_plugin_is_another_s_to_load(recorded: Recorded) -> None:
    model = onnx.load_from_string(graph(Plan("plugin")))
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "plugin_namespace":
                attribute.s = b"gaitedge2"
    said = failing(model.SerializeToString())
    assert "GaitEdgeFocalConv (version 1, namespace 'gaitedge2')" in said
    assert "load the library that registers it first, or export a plan without plugins" in said
    assert recorded.libraries == []


@pytest.mark.parametrize("plan", WITH_PLUGINS, ids=str)
def test_a_graph_is_known_by_its_bytes(found: Recorded, plan: Plan) -> None:
    """However protobuf writes it: as read again, and in its deterministic form."""
    import tensorrt as trt

    written = onnx.load_from_string(graph(plan))
    for data in (written.SerializeToString(), written.SerializeToString(deterministic=True)):
        assert load_plugins(trt, data) is not None
    assert load_plugins(trt, graph(Plan())) is None
