"""What TensorRT's profiler reports of layers, summed up and named with the inspector's help."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from gpu_box import GpuBox, runs
from networks import random_silhouettes
from pycuda_fake import LaunchError
from tensorrt_fake import VERSIONS

from gaitedge.engines.timing import LayerTime, LayerTimer
from gaitedge.errors import InputError, MachineError, SilhouetteError

MakeBox = Callable[..., GpuBox]


def layer(name: str, kind: str = "CaskConvolution", metadata: str | None = None) -> dict[str, Any]:
    half = [{"Name": "x", "Format/Datatype": "Half"}]
    told: dict[str, Any] = {"Name": name, "LayerType": kind, "Inputs": half, "Outputs": half}
    return told if metadata is None else {**told, "Metadata": metadata}


LAYERS = (
    layer("fconv1.conv + PWN(fconv1.relu)"),
    layer("__myl_Conv\x1emyl0", "kgen", "[ONNX Layer: fconv2.conv]\x1e[ONNX Layer: fconv2.relu]"),
    layer("hp", "Reformat"),
    layer("hp", "PluginV3"),
)


def ms(found: list[LayerTime]) -> list[tuple[str, float]]:
    return [(layer.name, layer.ms) for layer in found]


@pytest.mark.parametrize("version", VERSIONS)
def test_layers_are_summed_up_over_the_calls(make_box: MakeBox, version: str) -> None:
    box = make_box(version)
    box.recorded.layers = LAYERS
    engine = box.engine()
    assert isinstance(engine, LayerTimer)
    calls = [random_silhouettes(*shape, 0) for shape in ((1, 30), (1, 30), (2, 60), (1, 30))]
    # In the fake the n-th layer takes n times the batch.
    found = engine.layer_times(calls)
    assert found.layers == [
        LayerTime(
            "fconv1.conv + PWN(fconv1.relu)",
            "CaskConvolution",
            ("fconv1.conv", "PWN", "fconv1.relu"),
            "fp16",
            5.0,
        ),
        LayerTime("__myl_Conv + myl0", "kgen", ("fconv2.conv", "fconv2.relu"), "fp16", 10.0),
        LayerTime("hp", "Reformat", (), "fp16", 15.0, ("hp",)),
        LayerTime("hp (2)", "PluginV3", ("hp",), "fp16", 20.0),
    ]
    assert found.total_ms is not None


def test_the_whole_is_the_hosts_time_of_the_same_calls(box: GpuBox, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that the driver's calls advance: 2 copies, a run, a wait; not the first run of a shape."""
    box.recorded.layers = LAYERS
    engine = box.engine()
    monkeypatch.setattr(
        "gaitedge.engines.tensorrt_slot.time.perf_counter", lambda: sum(box.gpu.calls.values()) / 1e3
    )
    calls = [random_silhouettes(1, 30, seed) for seed in range(3)]
    assert engine.layer_times(calls).total_ms == pytest.approx(3 * 4.0)


def test_the_first_run_of_a_shape_is_not_counted(make_box: MakeBox) -> None:
    box = make_box()
    box.recorded.layers = LAYERS
    engine = box.engine()
    engine.layer_times([random_silhouettes(*shape, 0) for shape in ((1, 30), (1, 30), (2, 30))])
    told = [entry for entry in box.recorded.runs if entry in ("run", "report") or entry.startswith("shape")]
    assert told == [
        "shape 1x30",
        "run",
        "run",
        "report",
        "run",
        "report",
        "shape 2x30",
        "run",
        "run",
        "report",
    ]
    assert box.gpu.calls["cuStreamBeginCapture"] == 0


def test_calls_before_and_after_are_what_they_were(box: GpuBox) -> None:
    """Graphs stay valid; memory that moves while layers are timed takes them with it."""
    box.recorded.layers = LAYERS
    engine = box.engine()
    assert runs(box, engine, (1, 20), (1, 20))
    engine.layer_times([random_silhouettes(1, 20, 0)])
    launched = box.gpu.calls["cuGraphLaunch"]
    assert runs(box, engine, (1, 20))
    assert box.gpu.calls["cuGraphLaunch"] == launched + 1
    engine.layer_times([random_silhouettes(1, 20, 0), random_silhouettes(4, 80, 0)])
    assert box.gpu.graphs == set()
    assert runs(box, engine, (1, 20), (1, 20), (4, 80), (4, 80), (4, 80))


def test_the_context_goes_and_its_profiler_after_it(box: GpuBox, monkeypatch: pytest.MonkeyPatch) -> None:
    box.recorded.layers = LAYERS
    engine = box.engine()
    (loaded,) = box.recorded.engines
    contexts, gone = loaded.contexts, list[int]()
    del loaded
    profiler = sys.modules["tensorrt"].IProfiler
    monkeypatch.setattr(profiler, "__del__", lambda self: gone.append(len(contexts)), raising=False)
    engine.layer_times([random_silhouettes(1, 4, 0)])
    assert gone == [1]  # the slot's own context alone is left
    engine.layer_times([random_silhouettes(1, 4, 0)])
    engine.close()
    assert box.gpu.empty
    assert len(box.recorded.engines) == 0


def test_a_layer_that_the_inspector_does_not_list(box: GpuBox, monkeypatch: pytest.MonkeyPatch) -> None:
    box.recorded.layers = LAYERS[:1]
    engine = box.engine()
    inspector = sys.modules["tensorrt"].EngineInspector
    monkeypatch.setattr(inspector, "get_engine_information", lambda *_: '{"Layers": []}')
    (found,) = engine.layer_times([random_silhouettes(1, 4, 0)]).layers
    assert (found.kind, found.precision) == ("unknown", None)
    assert "fconv1.conv" in found.nodes


def test_an_engine_that_reports_no_layers(box: GpuBox) -> None:
    with pytest.raises(MachineError, match="TensorRT's profiler reports no layers of this engine"):
        box.engine().layer_times([random_silhouettes(1, 4, 0)])


def test_a_report_that_fails(box: GpuBox) -> None:
    box.recorded.layers = LAYERS
    box.recorded.reports_fail = "Error Code 3: no profiler"
    engine = box.engine()
    with pytest.raises(MachineError, match="TensorRT cannot tell the time of its layers: Error Code 3"):
        engine.layer_times([random_silhouettes(1, 4, 0)])
    box.recorded.reports_fail = ""
    assert runs(box, engine, (1, 4), (1, 4), (1, 4))
    assert len(engine.layer_times([random_silhouettes(1, 4, 0)]).layers) == 4


@pytest.mark.parametrize("call", ["cuStreamSynchronize", "execute_async_v3", "a context"])
def test_an_error_in_the_middle_leaves_the_engine_usable(box: GpuBox, call: str) -> None:
    box.recorded.layers = LAYERS
    engine = box.engine()
    assert runs(box, engine, (1, 4), (1, 4))
    box.gpu.failing[call] = LaunchError(f"{call} failed: unspecified launch failure")
    with pytest.raises(MachineError, match="the GPU failed"):
        engine.layer_times([random_silhouettes(1, 4, 0)])
    box.gpu.failing.clear()
    assert runs(box, engine, (1, 4), (1, 4))
    assert ms(engine.layer_times([random_silhouettes(1, 4, 0)]).layers)[0][1] == 1.0
    gc.collect()  # the error's traceback
    engine.close()
    assert box.gpu.empty


def test_what_no_calls_may_be(box: GpuBox) -> None:
    engine = box.engine()
    with pytest.raises(InputError, match="the time of layers needs 1 call or more, not 0"):
        engine.layer_times([])
    with pytest.raises(SilhouetteError):
        engine.layer_times([np.zeros((1, 4, 64, 44), np.float32)])  # type: ignore[list-item]
    with pytest.raises(InputError, match="a batch of 9 and 4 frames"):
        engine.layer_times([random_silhouettes(9, 4, 0)])
    assert box.gpu.empty
