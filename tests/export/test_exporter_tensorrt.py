"""What becomes of a TensorRT build: a bundle that holds it, once it was found to agree; else nothing.

The build itself and the comparison are stood in for: tests/export/test_tensorrt.py and test_gpu.py are
about them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest
from calibrations import calibrated
from commands import in_process, succeed
from networks import random_weights

from gaitedge.bundle import FOLD_GRAPH, Bundle
from gaitedge.calibration.applying import quantization
from gaitedge.config import GaitPartConfig
from gaitedge.engines import load
from gaitedge.errors import BundleError, InputError, MachineError
from gaitedge.export import agreement, exporter, targets, tensorrt
from gaitedge.export.exporter import export, rebuild
from gaitedge.export.graph import Plan
from gaitedge.export.tensorrt import BuildOptions, Built, Range
from gaitedge.machine.cuda_driver import CudaDevice
from gaitedge.manifest import Agreement
from gaitedge.weights import save_weights

SMALL = GaitPartConfig(channels=(4, 8, 12), parts=4, embedding_dim=8)
OPTIONS = BuildOptions(batch=Range(2, 4, 16), frames=Range(10, 20, 40), workspace=0.25)
AGREES = Agreement("ONNX Runtime", 3e-3, 0.99999)


class Builder:
    """Stands for tensorrt.build; keeps what it was given."""

    def __init__(self) -> None:
        self.calls: list[tuple[onnx.ModelProto, str, BuildOptions]] = []
        self.device = CudaDevice("NVIDIA Orin", (8, 7), 8 << 30, 8)
        self.layers = {"fconv1": "{}", "fc": "fp32"}

    def __call__(self, graph: bytes, precision: str, options: BuildOptions, progress: Any) -> Built:
        self.calls.append((onnx.load_from_string(graph), precision, options))
        progress("tactics", 1, 2)
        return Built(
            plan=b"plan of " + precision.encode() + b" for " + self.device.name.encode(),
            device=self.device,
            versions={"tensorrt": "10.3.0", "cuda": "12.6"},
            layers={name: kind.format(precision) for name, kind in self.layers.items()},
            fell_back=tuple(name for name in ("fc",) if name in self.layers),
            seconds=12.5,
        )


@pytest.fixture
def builder(monkeypatch: pytest.MonkeyPatch) -> Builder:
    found = Builder()
    for module in (exporter, targets):
        monkeypatch.setattr(module, "require_tensorrt", lambda why: SimpleNamespace(__version__="10.3.0"))
    monkeypatch.setattr(tensorrt, "build", found)
    monkeypatch.setattr(agreement, "compare_plan", lambda *arguments: AGREES)
    return found


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "weights.safetensors"
    save_weights(path, SMALL, random_weights(SMALL, 0))
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "box.gait"


def test_the_bundle_holds_the_engine_and_how_it_was_built(builder: Builder, source: Path, out: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    report = export(
        source,
        out,
        "tensorrt",
        options=OPTIONS,
        progress=lambda *step: steps.append(step),  # type: ignore[arg-type]
    )
    bundle = Bundle.open(out)
    target = bundle.manifest.targets["tensorrt-fp16"]
    assert bundle.manifest.targets.keys() == {"tensorrt-fp16"}
    assert (target.engine, target.precision, target.agreement) == ("tensorrt", "fp16", AGREES)
    build = target.build
    assert build is not None
    assert build == report.build
    assert bundle.read(build.member) == b"plan of fp16 for NVIDIA Orin"
    assert onnx.load_from_string(bundle.read(build.graph)) == builder.calls[0][0]
    assert (build.device, build.compute_capability, build.multiprocessors) == ("NVIDIA Orin", (8, 7), 8)
    assert build.versions == {"tensorrt": "10.3.0", "cuda": "12.6"}
    assert build.layers == {"fconv1": "fp16", "fc": "fp32"}
    assert build.fell_back == ("fc",)
    assert BuildOptions.from_json(build.options) == OPTIONS
    assert report.engine == "TensorRT 10.3.0 on NVIDIA Orin, fp16"
    assert ("tactics", 1, 2) in steps
    assert steps[-1] == ("writing the bundle", 0, 0)


def test_the_commands_tell_how_an_engine_was_built(builder: Builder, source: Path, out: Path) -> None:
    told = succeed("export", source, out, "--target", "tensorrt", "--precision", "fp16").stdout
    assert "built in 12 s: 2 layers, 1 in fp16, 1 in fp32\n" in told
    assert "\nin a higher precision than fp16: fc\n" in told
    told = succeed("inspect", out).stdout
    assert "\ntensorrt-fp16: built in 12 s: 2 layers, 1 in fp16, 1 in fp32\n" in told
    assert "\ntensorrt-fp16: in a higher precision than fp16: fc\n" in told
    builder.layers = {}
    told = succeed("export", source, out, "--target", "tensorrt").stdout
    assert "built in 12 s: TensorRT tells of no layers\n" in told


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_the_builder_gets_the_graph_of_the_plan(
    builder: Builder, source: Path, out: Path, precision: Any
) -> None:
    plugins = precision != "bf16"  # which none of them has
    plan = Plan("plugin", "plugin") if plugins else Plan("split", "per_part")
    report = export(source, out, "tensorrt", precision, plan)
    graph, asked, options = builder.calls[0]
    assert (asked, options) == (precision, BuildOptions())
    assert ("GaitEdgeFocalConv" in {node.op_type for node in graph.graph.node}) == plugins
    assert not graph.functions  # TensorRT's registry resolves the plugins
    assert report.nodes == len(graph.graph.node)


def test_engines_stand_beside_each_other_and_are_replaced_one_by_one(
    builder: Builder, source: Path, out: Path
) -> None:
    export(source, out, "cpu")
    export(out, out, "tensorrt", "fp32")
    export(out, out, "tensorrt", "fp16")
    first = Bundle.open(out)
    assert first.manifest.targets.keys() == {"cpu-fp32", "tensorrt-fp32", "tensorrt-fp16"}
    builder.device = CudaDevice("NVIDIA Thor", (11, 0), 8 << 30, 8)
    export(out, out, "tensorrt", "fp16")
    second = Bundle.open(out)
    assert second.read("engines/tensorrt-fp32.plan") == b"plan of fp32 for NVIDIA Orin"
    assert second.read("engines/tensorrt-fp16.plan") == b"plan of fp16 for NVIDIA Thor"
    assert second.manifest.target("tensorrt") == second.manifest.targets["tensorrt-fp16"]
    assert second.read(FOLD_GRAPH) == first.read(FOLD_GRAPH)


def test_fp8_is_int8s_way_in_another_type(builder: Builder, source: Path, out: Path) -> None:
    """The same calibration, E4M3 beside FP16; and as int8 it goes with its calibration."""
    weights = random_weights(SMALL, 0)
    given = quantization(calibrated(SMALL, weights), SMALL, weights)
    report = export(source, out, "tensorrt", "fp8", quantization=given)
    assert (report.target, report.precision) == ("tensorrt", "fp8")
    graph, asked, _ = builder.calls[0]
    assert asked == "fp8"
    types = {constant.data_type for constant in graph.graph.initializer}
    assert onnx.TensorProto.FLOAT8E4M3FN in types
    assert onnx.TensorProto.FLOAT16 in types
    assert not {onnx.TensorProto.INT8, onnx.TensorProto.FLOAT} & types
    assert {node.name for node in graph.graph.node if node.op_type == "QuantizeLinear"} >= {
        f"fconv{layer}.weight.quantize" for layer in range(1, 7)
    }
    bundle = Bundle.open(out)
    assert bundle.manifest.targets["tensorrt-fp8"].precision == "fp8"
    assert bundle.read("calibration.json") == given.record
    export(out, out, "tensorrt", "int8", quantization=given)
    assert Bundle.open(out).manifest.targets.keys() == {"tensorrt-fp8", "tensorrt-int8"}
    rebuild(out)
    assert sorted(asked for _, asked, _ in builder.calls[2:]) == ["fp8", "int8"]
    other = quantization(calibrated(SMALL, weights, harsh=2), SMALL, weights)
    export(out, out, "tensorrt", "int8", quantization=other)
    assert Bundle.open(out).manifest.targets.keys() == {"tensorrt-int8"}


def test_rebuilding_takes_graphs_and_options_from_the_bundle(
    builder: Builder, source: Path, out: Path
) -> None:
    export(source, out, "tensorrt", "fp32", Plan("split", "per_part"))
    export(out, out, "tensorrt", "fp16", options=OPTIONS)
    before = list(builder.calls)
    builder.device = CudaDevice("NVIDIA Thor", (11, 0), 8 << 30, 8)
    reports = rebuild(out)
    again = {precision: (graph, options) for graph, precision, options in builder.calls[2:]}
    for graph, precision, options in before:
        assert again[precision] == (graph, options)
    bundle = Bundle.open(out)
    assert {target.build.device for target in bundle.manifest.targets.values() if target.build} == {
        "NVIDIA Thor"
    }
    assert bundle.read("engines/tensorrt-fp32.plan") == b"plan of fp32 for NVIDIA Thor"
    assert sorted(report.precision for report in reports) == ["fp16", "fp32"]
    assert {report.path for report in reports} == {out}


def test_other_options_are_for_another_build(builder: Builder, source: Path, out: Path) -> None:
    """A rebuild that runs out of memory is told to give a smaller workspace: it learns how."""
    export(source, out, target="tensorrt", options=OPTIONS)
    before = out.read_bytes()
    done = in_process("export", out, "--rebuild", "--workspace", "0.1")
    told = " ".join(done.stderr.replace("│", " ").split())
    assert (done.status, out.read_bytes()) == (2, before)
    assert "leave it out, as in --target tensorrt --workspace 0.2" in told
    succeed("export", out, "--target", "tensorrt", "--workspace", "0.2")
    assert builder.calls[-1][2].workspace == 0.2


def test_rebuilding_into_another_file_leaves_the_first(builder: Builder, source: Path, out: Path) -> None:
    export(source, out, "tensorrt")
    whole = out.read_bytes()
    (report,) = rebuild(out, out.with_name("other.gait"))
    assert out.read_bytes() == whole
    assert Bundle.open(report.path).manifest.targets.keys() == {"tensorrt-fp16"}


def test_a_bundle_without_engines_is_not_rebuilt(builder: Builder, source: Path, out: Path) -> None:
    export(source, out, "cpu")
    for path in (out, source):
        with pytest.raises(InputError, match=r"holds no engine .* --target tensorrt"):
            rebuild(path)
    assert builder.calls == []


def _disagrees(*arguments: object) -> Agreement:
    raise MachineError("TensorRT's engine does not compute this network")


def _interrupted(*arguments: object) -> Agreement:
    raise KeyboardInterrupt


@pytest.mark.parametrize("happens", [_disagrees, _interrupted])
@pytest.mark.parametrize("name", ["build", "compare_plan"])
def test_whatever_fails_leaves_what_was_there(
    builder: Builder,
    monkeypatch: pytest.MonkeyPatch,
    source: Path,
    out: Path,
    name: str,
    happens: Callable[..., Agreement],
) -> None:
    export(source, out, "tensorrt")
    whole = out.read_bytes()
    monkeypatch.setattr(tensorrt if name == "build" else agreement, name, happens)
    for run in (lambda: export(out, out, "tensorrt", "fp32"), lambda: rebuild(out)):
        with pytest.raises((MachineError, KeyboardInterrupt)):
            run()
        assert out.read_bytes() == whole
        assert {path.name for path in out.parent.iterdir()} == {out.name, source.name}


def test_without_a_gpu_a_cpu_runs_the_bundle_and_says_why(builder: Builder, source: Path, out: Path) -> None:
    export(source, out, "tensorrt")
    engine = load(Bundle.open(out))
    assert engine.name == "openvino"
    assert "; not TensorRT: " in engine.description.partition("; ")[2]


def test_without_a_gpu_nothing_is_built(source: Path, out: Path) -> None:
    """No stand-in here: this machine's own answer, where it has no GPU."""
    if exporter.lacking() is None:
        pytest.skip("this machine has a GPU and TensorRT")
    with pytest.raises(MachineError) as caught:
        export(source, out, "tensorrt")
    assert "\n" not in str(caught.value)
    assert not out.exists()


def test_an_engine_that_is_not_there_names_the_export(source: Path, out: Path) -> None:
    export(source, out, "cpu")
    with pytest.raises(BundleError, match=r"no TensorRT engine in fp16; run: gaitedge export .*box\.gait"):
        load(Bundle.open(out), "tensorrt", precision="fp16")
