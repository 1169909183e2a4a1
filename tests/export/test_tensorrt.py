"""The builder against the fake of each version; test_tensorrt_names.py holds it against the real names."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from networks import random_weights
from tensorrt_fake import VERSIONS, Recorded

from gaitedge.config import GaitPartConfig
from gaitedge.errors import InputError, MachineError, MissingPackage
from gaitedge.export.graph import Plan, build_graph
from gaitedge.export.tensorrt import BuildOptions, Built, Range, build
from gaitedge.machine.cuda_driver import CudaDevice, CudaDriver

ADA = CudaDevice("NVIDIA L4", (8, 9), 24 << 30, 58)
SMALL = GaitPartConfig(channels=(4, 8, 12), parts=4, embedding_dim=8)
GRAPH = build_graph(SMALL, random_weights(SMALL, 0), Plan(precision="fp16")).SerializeToString()
NEWER = VERSIONS[1:]


@pytest.fixture(params=VERSIONS)
def recorded(request: pytest.FixtureRequest, install: Callable[..., Recorded]) -> Recorded:
    return install(request.param)


def failing(precision: str = "fp16", options: BuildOptions | None = None, graph: bytes = GRAPH) -> str:
    """The one line of a build that fails."""
    with pytest.raises(MachineError) as caught:
        build(graph, precision, options or BuildOptions())
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_engine_and_how_it_came_about(recorded: Recorded) -> None:
    recorded.layers = (
        {
            "Name": "fconv1",
            "Inputs": [{"Name": "x", "Format/Datatype": "Half"}],
            "Outputs": [{"Name": "y", "Format/Datatype": "Half"}],
        },
        {"Name": "shape", "Inputs": [], "Outputs": [{"Name": "s", "Format/Datatype": "Int32"}]},
    )
    built = build(GRAPH, "fp16", BuildOptions())
    assert isinstance(built, Built)
    assert isinstance(built.plan, bytes)
    assert recorded.version.encode() in built.plan
    assert built.device == ADA
    place = f"{sys.platform}-{platform.machine().lower()}"
    assert built.versions == {"tensorrt": recorded.version, "cuda": "12.6", "platform": place}
    # 8.6 tells types only of shapes that are known: the optimum's were.
    assert built.layers == {"fconv1": "fp16"}
    assert built.fell_back == ()
    assert 0 < built.seconds < 60
    assert recorded.calls == ["Builder", "OnnxParser", "Runtime"]


def test_layers_that_fell_back_are_listed(recorded: Recorded) -> None:
    tensors = {kind: [{"Name": "x", "Format/Datatype": kind}] for kind in ("Half", "Float")}
    recorded.layers = tuple(
        {"Name": name, "Inputs": tensors[kind], "Outputs": tensors[kind], "Metadata": f"[ONNX Layer: {name}]"}
        for name, kind in (("fconv1", "Half"), ("fconv2", "Float"))
    )
    names = [node.name for node in build_graph(SMALL, random_weights(SMALL, 0)).graph.node]
    assert {"fconv1", "fconv2"} <= set(names)
    assert build(GRAPH, "fp16").fell_back == ("fconv2",)


def test_what_is_the_same_in_every_version(recorded: Recorded) -> None:
    build(GRAPH, "fp32", BuildOptions(Range(2, 4, 16), Range(10, 30, 90), workspace=0.25))
    assert recorded.shapes == {"silhouettes": [(2, 10, 64, 44), (4, 30, 64, 44), (16, 90, 64, 44)]}
    assert recorded.workspace == (10 << 30) // 4
    assert recorded.cleared == {"TF32"}  # FP32 means FP32
    assert recorded.flags == set()  # no REFIT, no VERSION_COMPATIBLE
    settings = {name: getattr(value, "name", value) for name, value in recorded.settings.items()}
    settings.pop("progress_monitor", None)
    assert settings == {
        "hardware_compatibility_level": "NONE",
        "builder_optimization_level": 3,
        "profiling_verbosity": "DETAILED",
    }


def test_compatibility_is_asked_for(recorded: Recorded) -> None:
    build(GRAPH, "fp32", BuildOptions(hardware_compatibility="ampere+", version_compatible=True))
    assert recorded.flags == {"VERSION_COMPATIBLE"}
    assert recorded.settings["hardware_compatibility_level"].name == "AMPERE_PLUS"


@pytest.mark.parametrize("version", ["8.6.1", "10.3.0"])
def test_a_compatibility_that_a_version_lacks(install: Callable[..., Recorded], version: str) -> None:
    install(version)
    said = failing(options=BuildOptions(hardware_compatibility="same-compute-capability"))
    assert said.startswith(f"TensorRT {version} has no hardware compatibility same-compute-capability; take")


def test_a_jetsons_engines_run_nowhere_else(recorded: Recorded, tmp_path: Path) -> None:
    (tmp_path / "root/etc").mkdir(parents=True)
    (tmp_path / "root/etc/nv_tegra_release").write_text("# R36 (release), REVISION: 4.3")
    said = failing(options=BuildOptions(hardware_compatibility="ampere+"))
    assert "has no hardware compatibility ampere+ there; leave it at none" in said
    assert recorded.calls == []
    build(GRAPH, "fp16")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("driver", "words"),
    [
        (CudaDriver("absent", "no libcuda.so.1"), "needs an NVIDIA GPU, and there is none"),
        (CudaDriver("ok", "the driver has no device", (12, 6)), "the driver has no device"),
        (CudaDriver("broken", "it crashed (SIGSEGV)"), "it crashed (SIGSEGV); run: gaitedge doctor"),
    ],
)
def test_without_a_gpu_nothing_of_tensorrt_is_touched(
    install: Callable[..., Recorded], version: str, driver: CudaDriver, words: str
) -> None:
    recorded = install(version, driver)
    said = failing()
    assert words in said
    assert said.startswith("building a TensorRT engine needs")
    assert recorded.calls == []


def test_without_tensorrt(install: Callable[..., Recorded], monkeypatch: pytest.MonkeyPatch) -> None:
    install("10.3.0")
    monkeypatch.delitem(sys.modules, "tensorrt")
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(MissingPackage, match="building a TensorRT engine needs tensorrt"):
        build(GRAPH, "fp16")


def test_a_precision_that_is_not_to_be_had(install: Callable[..., Recorded]) -> None:
    recorded = install("8.6.1")
    assert failing("bf16") == (
        "no bf16 engine can be built here: this TensorRT has fp32, fp16, int8; take fp16 or update TensorRT"
    )
    assert recorded.calls == []


@pytest.mark.parametrize("mode", ["no cuda"])
def test_a_driver_that_is_too_old_for_this_tensorrt(recorded: Recorded, mode: str) -> None:
    """8.6 raises, newer ones give a builder that crashes when it is used."""
    recorded.mode = mode
    said = failing()
    assert said == (
        f"TensorRT {recorded.version} does not start on this GPU: CUDA initialization failure with error: 35"
    )
    assert recorded.calls == ["Builder"]
    assert recorded.network_flags is None


def test_the_parsers_errors_are_one_line(recorded: Recorded) -> None:
    recorded.parser_errors = (("unsupported\noperator", "fc", "MatMul"), ("no axes", "hp", "ReduceMax"))
    said = failing()
    assert said.startswith(f"TensorRT {recorded.version} cannot read the graph: node ")
    assert "unsupported operator; node " in said
    assert said.endswith(": no axes")
    assert ("fc (MatMul)" in said) == (recorded.version != "8.6.1")


@pytest.mark.parametrize(
    ("says", "words"),
    [
        (
            [("ERROR", "Error Code 2: OutOfMemory (Requested size was 9 bytes.)")],
            "out of memory; give a smaller --workspace, or smaller maxima of --batch and --frames (Error",
        ),
        (
            [("ERROR", "Cuda Runtime (out of memory)"), ("ERROR", "it gave up")],
            "out of memory; give a smaller",
        ),
        (
            [
                ("WARNING", "Requested amount of GPU memory (9 bytes) could not be allocated."),
                ("ERROR", "no"),
            ],
            "out of memory; give",
        ),
        (
            [
                ("WARNING", "Some tactics do not have sufficient workspace memory to run."),
                ("ERROR", "Error Code 10: Could not find any implementation for node fc."),
            ],
            "no kernel fits into the workspace; give a larger --workspace (Error Code 10: Could not find",
        ),
        (
            [("ERROR", "No low-precision conv kernel available for this strongly-typed Conv. Memory is")],
            "no kernel for a convolution in this precision; give --micro-motion per_part or",
        ),
        (
            [("ERROR", "Error Code 10: Could not find any implementation for node mtb1.squeeze.")],
            "no kernel does what one layer asks; give --micro-motion per_part or --precision fp32",
        ),
        (
            [
                ("WARNING", "a warning"),
                ("ERROR", "the first"),
                ("INTERNAL_ERROR", "the\nlast"),
                ("INFO", "x"),
            ],
            "cannot build the engine: the last",
        ),
        ([], "cannot build the engine: it did not say why"),
    ],
)
def test_a_build_that_fails(
    recorded: Recorded, says: list[tuple[str, str]], words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    recorded.build_says, recorded.build_fails = tuple(says), True
    said = failing()
    assert said.startswith(f"TensorRT {recorded.version} cannot build the engine: ")
    assert words in said
    assert capfd.readouterr() == ("", "")


def test_what_tensorrt_says_on_the_way_is_not_shown(
    recorded: Recorded, capfd: pytest.CaptureFixture[str]
) -> None:
    recorded.build_says = (("WARNING", "weights are subnormal"), ("INFO", "some"), ("ERROR", "not fatal"))
    build(GRAPH, "fp16")
    assert capfd.readouterr() == ("", "")


def cache_of(tmp_path: Path, version: str) -> Path:
    return tmp_path / f"caches/gaitedge/timing/nvidia-l4-sm89-tensorrt-{version}.cache"


def test_timings_are_kept_for_the_next_build(recorded: Recorded, tmp_path: Path) -> None:
    path, timings = cache_of(tmp_path, recorded.version), f"timings of {recorded.version}".encode()
    build(GRAPH, "fp16")
    assert recorded.cache_given == b""
    assert path.read_bytes() == timings
    build(GRAPH, "fp16")
    assert recorded.cache_given == timings
    path.write_bytes(b"damaged")
    build(GRAPH, "fp16")
    assert recorded.cache_given == b""
    assert path.read_bytes() == timings


def test_a_complaint_about_the_timings_is_not_the_builds(recorded: Recorded, tmp_path: Path) -> None:
    path = cache_of(tmp_path, recorded.version)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"out of memory")
    recorded.build_fails = True
    assert failing().endswith("it did not say why")
    assert path.read_bytes().startswith(b"timings of")  # what the failed build measured is of use


def test_a_timing_cache_of_the_users(recorded: Recorded, tmp_path: Path) -> None:
    build(GRAPH, "fp16", BuildOptions(timing_cache=tmp_path / "mine"))
    assert (tmp_path / "mine").read_bytes().startswith(b"timings of")
    assert not (tmp_path / "caches").exists()
    with pytest.raises(InputError, match="is a folder; name the file of the timing cache"):
        build(GRAPH, "fp16", BuildOptions(timing_cache=tmp_path))
    os.mkfifo(tmp_path / "pipe")  # to read it would wait for ever
    with pytest.raises(InputError, match="is a device or a pipe; name the file of the timing cache"):
        build(GRAPH, "fp16", BuildOptions(timing_cache=tmp_path / "pipe"))


def test_timings_that_cannot_be_kept_cost_no_engine(
    recorded: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "caches").write_text("a file where the folder should be")
    assert build(GRAPH, "fp16").plan
    monkeypatch.setattr(os, "access", lambda *_: False)  # as for anybody but root
    with pytest.raises(InputError, match=r"mine cannot be written: .* is not writable"):  # before the build
        build(GRAPH, "fp16", BuildOptions(timing_cache=tmp_path / "locked" / "mine"))


def test_an_engine_that_does_not_load_again(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = sys.modules["tensorrt"]
    monkeypatch.setattr(module.Builder, "build_serialized_network", lambda *_: module.IHostMemory(b"no plan"))
    assert "cannot load the engine that it has just built: magicTag" in failing()
