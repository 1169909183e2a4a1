"""What each version of TensorRT does in its own way, against the fake of it."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from tensorrt_fake import VERSIONS, Recorded, fake_tensorrt

from gaitedge.machine.cuda_driver import CudaDevice
from gaitedge.machine.tensorrt_versions import Dialect, dialect

TURING = CudaDevice("NVIDIA T4", (7, 5), 16 << 30, 40)
ORIN = CudaDevice("Orin", (8, 7), 8 << 30, 16)
ADA = CudaDevice("NVIDIA L4", (8, 9), 24 << 30, 58)
NEWER = VERSIONS[1:]


@pytest.fixture
def made(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[Dialect, Any, Recorded]:
    """Dialect, module and record of the version that the test is given."""
    module, recorded = fake_tensorrt(request.param)
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    return dialect(module), module, recorded


def network_of(trt: Any, recorded: Recorded, *layers: tuple[str, str, str]) -> Any:
    recorded.network_layers = layers
    return trt.INetworkDefinition()


def config_of(trt: Any) -> Any:
    return trt.IBuilderConfig(None)


@pytest.mark.parametrize(
    ("made", "flag"),
    [
        ("8.6.1", "EXPLICIT_BATCH"),
        ("10.3.0", "STRONGLY_TYPED"),
        ("10.16.1.11", "STRONGLY_TYPED"),
        ("11.4.0.106", None),
    ],
    indirect=["made"],
)
def test_network_flags(made: tuple[Dialect, Any, Recorded], flag: str | None) -> None:
    found, trt, _ = made
    expected = 0 if flag is None else 1 << trt.NetworkDefinitionCreationFlag[flag]
    assert found.network_flags() == expected


LAYERS = (
    ("fconv1.conv", "CONVOLUTION", "HALF"),
    ("fc", "MATRIX_MULTIPLY", "FLOAT"),
    ("hp.pool", "POOLING", "HALF"),
    ("frames.shape", "SHUFFLE", "INT32"),
)


@pytest.mark.parametrize("made", ["8.6.1"], indirect=True)
@pytest.mark.parametrize(
    ("precision", "flags", "held"),
    [
        ("fp32", set(), {}),
        ("fp16", {"FP16", "PREFER_PRECISION_CONSTRAINTS"}, {"fconv1.conv": "HALF", "fc": "HALF"}),
        # Where an INT8 layer begins and ends, Q/DQ nodes say; a constraint would undo them.
        ("int8", {"FP16", "INT8"}, {}),
    ],
)
def test_8_is_told_the_precision(
    made: tuple[Dialect, Any, Recorded], precision: str, flags: set[str], held: dict[str, str]
) -> None:
    found, trt, recorded = made
    found.settle(config_of(trt), network_of(trt, recorded, *LAYERS), precision)
    assert recorded.flags == flags
    assert recorded.precisions == held
    assert recorded.preview == {"PROFILE_SHARING_0806": True}


@pytest.mark.parametrize("made", NEWER, indirect=True)
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8"])
def test_newer_ones_read_it_off_the_graph(made: tuple[Dialect, Any, Recorded], precision: str) -> None:
    found, trt, recorded = made
    found.settle(config_of(trt), network_of(trt, recorded, *LAYERS), precision)
    assert (recorded.flags, recorded.precisions, recorded.preview) == (set(), {}, {})


@pytest.mark.parametrize(
    ("made", "precision", "device", "words"),
    [
        ("8.6.1", "fp16", TURING, None),
        ("8.6.1", "int8", TURING, None),
        ("8.6.1", "bf16", ADA, "this TensorRT has fp32, fp16, int8"),
        ("8.6.1", "fp8", ADA, "this TensorRT has fp32, fp16, int8"),
        ("10.3.0", "bf16", TURING, r"needs compute capability 8.0, and this is NVIDIA T4 .*7.5\); take fp16"),
        ("10.3.0", "bf16", ORIN, None),
        ("11.4.0.106", "fp8", ORIN, r"needs compute capability 8.9, and this is Orin"),
        ("11.4.0.106", "fp8", ADA, None),
        ("11.4.0.106", "fp16", TURING, None),
        ("11.4.0.106", "int4", ADA, "this TensorRT has fp32, fp16, bf16, fp8, int8"),
    ],
    indirect=["made"],
)
def test_precisions(
    made: tuple[Dialect, Any, Recorded], precision: str, device: CudaDevice, words: str | None
) -> None:
    refusal = made[0].refusal(precision, device)
    if words is None:
        assert refusal is None
    else:
        assert refusal is not None
        with pytest.raises(ValueError, match=words):
            raise ValueError(refusal)


@pytest.mark.parametrize("made", VERSIONS, indirect=True)
def test_hardware_compatibility(made: tuple[Dialect, Any, Recorded]) -> None:
    found, trt, recorded = made
    levels = trt.HardwareCompatibilityLevel
    assert found.level("none") is levels.NONE
    assert found.level("ampere+") is levels.AMPERE_PLUS
    same = found.level("same-compute-capability")
    if recorded.version in ("8.6.1", "10.3.0"):
        assert same is None
    else:
        assert same is levels.SAME_COMPUTE_CAPABILITY
    assert found.level("hopper+") is None


@pytest.mark.parametrize("made", VERSIONS, indirect=True)
def test_plugins_are_looked_up(made: tuple[Dialect, Any, Recorded]) -> None:
    found, trt, recorded = made
    recorded.plugins = {("GaitEdgeFocalConv", "1", "gaitedge")}
    registry = trt.IPluginRegistry()
    assert found.has_plugin(registry, "GaitEdgeFocalConv", "1", "gaitedge")
    assert not found.has_plugin(registry, "GaitEdgeFocalConv", "2", "gaitedge")
    assert not found.has_plugin(registry, "GaitEdgeFocalConv", "1", "")


@pytest.mark.parametrize(
    ("made", "name", "place"),
    [
        ("8.6.1", "fc", "node 7"),
        ("10.3.0", "fc", "node fc (MatMul)"),
        ("11.4.0.106", "", "node 7 (MatMul)"),
    ],
    indirect=["made"],
)
def test_where_the_parser_stumbled(made: tuple[Dialect, Any, Recorded], name: str, place: str) -> None:
    found, trt, _ = made
    assert found.place(trt.ParserError("no such operator", name, "MatMul")) == place


@pytest.mark.parametrize("made", NEWER, indirect=True)
def test_progress(made: tuple[Dialect, Any, Recorded]) -> None:
    found, trt, recorded = made
    seen: list[tuple[str, int, int]] = []
    stopped = False
    kept = found.watch(config_of(trt), lambda *step: seen.append(step), lambda: stopped)
    monitor = recorded.settings["progress_monitor"]
    assert kept is monitor
    monitor.phase_start("Building Engine", None, 2)
    monitor.phase_start("Tactic Timing", "Building Engine", 5)
    assert monitor.step_complete("Tactic Timing", 0) is True
    stopped = True
    assert monitor.step_complete("Tactic Timing", 1) is False
    monitor.phase_finish("Tactic Timing")
    assert monitor.step_complete("a phase that never began", 3) is False
    assert seen == [
        ("Building Engine", 0, 2),
        ("Tactic Timing", 0, 5),
        ("Tactic Timing", 1, 5),
        ("Tactic Timing", 2, 5),
        ("Tactic Timing", 5, 5),
        ("a phase that never began", 4, 0),
    ]
    assert found.stoppable


@pytest.mark.parametrize("made", ["8.6.1"], indirect=True)
def test_8_reports_no_progress(made: tuple[Dialect, Any, Recorded]) -> None:
    found, trt, recorded = made
    assert found.watch(config_of(trt), lambda *_: None, lambda: False) is None
    assert "progress_monitor" not in recorded.settings
    assert not found.stoppable
