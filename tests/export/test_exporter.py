"""An export is checked against the paper's letter before it exists, or it does not come to exist."""

from __future__ import annotations

import dataclasses
import importlib.util
import subprocess
import sys
import textwrap
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from networks import configs, random_silhouettes, random_weights
from onnx import ModelProto

from gaitedge.bundle import FOLD_GRAPH, FRAMES_GRAPH, Bundle
from gaitedge.config import GaitPartConfig
from gaitedge.engines import Engine, load, load_target
from gaitedge.errors import BundleError, GaitEdgeError, InputError, MachineError, MissingPackage, WeightsError
from gaitedge.export import agreement, targets
from gaitedge.export.agreement import TOLERANCES
from gaitedge.export.exporter import ExportReport, PrecisionName, export
from gaitedge.export.graph import Plan, build_graph
from gaitedge.export.tensorrt import BuildOptions
from gaitedge.machine.cpu import cpu_features
from gaitedge.manifest import Agreement
from gaitedge.weights import Weights, fingerprint, save_weights

SMALL = GaitPartConfig(channels=(4, 8, 12), parts=4, embedding_dim=8)
HAS_BF16 = not cpu_features().isdisjoint({"avx512_bf16", "amx_bf16"})

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None or importlib.util.find_spec("onnxruntime") is None,
    reason="needs OpenVINO and ONNX Runtime",
)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "weights.safetensors"
    save_weights(path, SMALL, random_weights(SMALL, 0))
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A destination at which something older lies."""
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "model.gait").write_bytes(b"older")
    return folder / "model.gait"


def untouched(out: Path) -> bool:
    return out.read_bytes() == b"older" and [entry.name for entry in out.parent.iterdir()] == [out.name]


def hide(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    find = importlib.util.find_spec

    def pretend(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name in names else find(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", pretend)
    for name in names:
        monkeypatch.setitem(sys.modules, name, None)


def test_weights_become_a_checked_bundle(source: Path, out: Path) -> None:
    steps: list[str] = []
    report = export(source, out, progress=lambda name, done, total: steps.append(name))
    bundle = Bundle.open(out)
    assert bundle.config == SMALL
    assert bundle.fingerprint == fingerprint(SMALL, random_weights(SMALL, 0))
    assert bundle.manifest.targets["cpu-fp32"].engine == "openvino"
    assert bundle.manifest.targets["cpu-fp32"].precision == "fp32"
    assert bundle.manifest.targets["cpu-fp32"].agreement == report.agreement
    assert report.agreement is not None
    assert 0 < report.agreement.relative_error < 2e-5
    assert 0.99999 < report.agreement.cosine <= 1 + 1e-12
    assert report.agreement.reference.startswith("ONNX Runtime ")
    assert (report.path, report.target, report.precision) == (out, "cpu", "fp32")
    assert report.engine.startswith("OpenVINO ")
    assert report.bytes == out.stat().st_size
    assert report.seconds > 0
    assert report.nodes == len(ModelProto.FromString(bundle.read(FOLD_GRAPH)).graph.node)
    assert steps[0] == "reading the weights"
    assert steps[-1] == "writing the bundle"
    assert [entry.name for entry in out.parent.iterdir()] == [out.name]


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(config=configs())
def test_any_network_exports_within_the_tolerance(tmp_path: Path, config: GaitPartConfig) -> None:
    source = tmp_path / "weights.safetensors"
    save_weights(source, config, random_weights(config, 1))
    report = export(source, tmp_path / "model.gait")
    assert report.agreement is not None
    assert report.agreement.relative_error < 1e-5


@pytest.mark.skipif(not HAS_BF16, reason="this processor has no BF16 instructions")
def test_bf16_is_checked_by_its_own_tolerance(out: Path, tmp_path: Path) -> None:
    config = GaitPartConfig()
    save_weights(tmp_path / "paper.safetensors", config, random_weights(config, 0))
    report = export(tmp_path / "paper.safetensors", out, precision="bf16")
    assert report.agreement is not None
    assert 1e-4 < report.agreement.relative_error < TOLERANCES["bf16"].relative_error
    assert Bundle.open(out).manifest.targets["cpu-bf16"].precision == "bf16"
    assert load(Bundle.open(out)).precision == "bf16"


def test_a_bundle_exports_again(source: Path, out: Path, tmp_path: Path) -> None:
    export(source, out)
    first = Bundle.open(out)
    export(out, tmp_path / "again.gait", target="portable")
    again = Bundle.open(tmp_path / "again.gait")
    assert again.fingerprint == first.fingerprint
    assert again.read(FOLD_GRAPH) == first.read(FOLD_GRAPH)
    assert again.manifest.targets.keys() == {"cpu-fp32", "portable-fp32"}
    assert again.manifest.targets["cpu-fp32"] == first.manifest.targets["cpu-fp32"]
    out.rename(tmp_path / "renamed.bin")  # known by its content, not its name
    assert export(tmp_path / "renamed.bin", tmp_path / "renamed.bin").target == "cpu"  # onto itself
    assert Bundle.open(tmp_path / "renamed.bin").fingerprint == first.fingerprint


def test_a_portable_bundle_is_checked_where_an_engine_is(source: Path, out: Path) -> None:
    report = export(source, out, target="portable")
    assert report.target == "portable"
    assert report.agreement is not None
    assert Bundle.open(out).manifest.targets["portable-fp32"].engine == "any"
    silhouettes = random_silhouettes(1, 5, 0)
    engines = [load(Bundle.open(out), name).embed(silhouettes) for name in ("openvino", "onnxruntime")]
    np.testing.assert_allclose(*engines, rtol=0, atol=1e-5 * np.abs(engines[0]).max())


@pytest.mark.parametrize("target", ["auto", "portable"])
def test_without_an_engine_a_bundle_is_portable_and_says_it_is_unchecked(
    monkeypatch: pytest.MonkeyPatch, source: Path, out: Path, target: str
) -> None:
    hide(monkeypatch, "openvino", "onnxruntime")
    report = export(source, out, target=target)  # type: ignore[arg-type]
    assert (report.target, report.engine, report.agreement) == ("portable", "none", None)
    assert Bundle.open(out).manifest.targets["portable-fp32"].agreement is None
    monkeypatch.undo()
    assert load(Bundle.open(out)).embed(random_silhouettes(1, 2, 0)).shape == (1, 4, 8)


@pytest.mark.parametrize(("hidden", "engine"), [("openvino", "ONNX Runtime"), ("onnxruntime", "OpenVINO")])
def test_one_engine_is_its_own_reference(
    monkeypatch: pytest.MonkeyPatch, source: Path, out: Path, hidden: str, engine: str
) -> None:
    hide(monkeypatch, hidden)
    report = export(source, out)
    assert report.engine.startswith(engine)
    assert report.agreement is not None
    assert report.agreement.reference.startswith(engine)


def test_the_cpu_needs_an_engine(monkeypatch: pytest.MonkeyPatch, source: Path, out: Path) -> None:
    hide(monkeypatch, "openvino", "onnxruntime")
    for target in ("cpu", "onnxruntime"):
        with pytest.raises(MissingPackage, match=rf"pip install 'gaitedge\[{target}\]'"):
            export(source, out, target=target)  # type: ignore[arg-type]
    assert untouched(out)


def test_one_bundle_holds_several_targets(source: Path, out: Path) -> None:
    export(source, out)
    assert export(out, out, target="onnxruntime").engine.startswith("ONNX Runtime ")
    bundle = Bundle.open(out)
    assert {name: target.engine for name, target in bundle.manifest.targets.items()} == {
        "cpu-fp32": "openvino",
        "onnxruntime-fp32": "onnxruntime",
    }
    assert load(bundle).name == "openvino"
    assert load_target(bundle, "onnxruntime-fp32").name == "onnxruntime"
    with pytest.raises(InputError, match="'tpu'; its targets: cpu-fp32, onnxruntime-fp32"):
        load_target(bundle, "tpu")


def test_a_target_that_came_meanwhile_stays(monkeypatch: pytest.MonkeyPatch, source: Path, out: Path) -> None:
    """A build takes minutes: what another export added in that time is not lost."""
    export(source, out)
    check = agreement.check_agreement

    def meanwhile(*arguments: Any) -> None:
        monkeypatch.setattr(agreement, "check_agreement", check)
        export(out, out, target="portable")

    monkeypatch.setattr(agreement, "check_agreement", meanwhile)
    export(out, out, target="onnxruntime")
    assert Bundle.open(out).manifest.targets.keys() == {"cpu-fp32", "onnxruntime-fp32", "portable-fp32"}

    def another_model(*arguments: Any) -> None:
        monkeypatch.setattr(agreement, "check_agreement", check)
        save_weights(source, SMALL, random_weights(SMALL, 1))
        export(source, out)

    monkeypatch.setattr(agreement, "check_agreement", another_model)
    with pytest.raises(BundleError, match="became another model's bundle meanwhile"):
        export(out, out, target="onnxruntime")
    assert Bundle.open(out).manifest.targets.keys() == {"cpu-fp32"}


def test_a_bundle_for_onnx_runtime_runs_there(source: Path, out: Path) -> None:
    export(source, out, target="onnxruntime")
    assert load(Bundle.open(out)).description.endswith("; as exported")


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("plan", [None, Plan("split", "per_part")], ids=str)
def test_a_graph_alone(source: Path, out: Path, plan: Plan | None, precision: PrecisionName) -> None:
    """Under a name that ends in .onnx; checked where a runtime is here that has its types."""
    path = out.with_suffix(".onnx")
    report = export(source, path, precision=precision, plan=plan)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert (report.path, report.precision, report.nodes) == (path, precision, len(model.graph.node))
    assert (report.agreement is None) == (precision == "bf16")
    assert report.engine == "none" or f", {precision}, " in report.engine
    assert report.bytes == path.stat().st_size
    with pytest.raises(InputError, match=r"is an ONNX file, which is for every target"):
        export(source, path, target="cpu")
    with pytest.raises(InputError, match=r"G\.ONNX is an ONNX file, of which nothing is built"):
        export(source, path.with_name("G.ONNX"), options=BuildOptions())


def test_what_every_bundle_holds(source: Path, out: Path) -> None:
    export(source, out)
    frames = onnx.load_from_string(Bundle.open(out).read(FRAMES_GRAPH))
    assert [port.name for port in frames.graph.output] == ["part_features"]


def test_options_of_a_build_are_for_tensorrt(source: Path, out: Path) -> None:
    for choice in ({"options": BuildOptions()}, {"plan": Plan("split")}):
        with pytest.raises(InputError, match="are for the target tensorrt, not for cpu"):
            export(source, out, target="cpu", **choice)  # type: ignore[arg-type]
    assert untouched(out)


def test_bf16_needs_an_engine_that_has_it(monkeypatch: pytest.MonkeyPatch, source: Path, out: Path) -> None:
    with pytest.raises(InputError, match="the target portable has fp32, not bf16"):
        export(source, out, target="portable", precision="bf16")
    with pytest.raises(InputError, match="the target cpu has fp32, bf16, int8, not fp16"):
        export(source, out, target="cpu", precision="fp16")
    hide(monkeypatch, "openvino")
    with pytest.raises(InputError, match="the target onnxruntime has fp32, int8, not bf16"):
        export(source, out, precision="bf16")
    assert untouched(out)


def test_a_graph_that_is_not_the_letter_is_not_written(
    monkeypatch: pytest.MonkeyPatch, source: Path, out: Path
) -> None:
    """The fused graph gets one weight that is off by a thousandth of the largest."""

    def wrong(config: GaitPartConfig, weights: Weights, plan: Plan | None = None) -> ModelProto:
        weights = {name: array.copy() for name, array in weights.items()}
        weights["fc"][0, 0, 0] += 1e-2 * np.abs(weights["fc"]).max()
        return build_graph(config, weights, plan)

    monkeypatch.setattr(targets, "build_graph", wrong)
    with pytest.raises(MachineError, match=r"does not compute this network: .*nothing was written") as caught:
        export(source, out)
    assert "\n" not in str(caught.value)
    assert untouched(out)


@pytest.mark.parametrize("factor", [1.001, -1, 0, float("nan"), float("inf")])
def test_disagreement_of_every_kind_is_refused(
    monkeypatch: pytest.MonkeyPatch, source: Path, out: Path, factor: float
) -> None:
    compare = agreement.compare

    def scaled(engine: Engine, reference: Engine) -> Agreement:
        embed = engine.embed
        engine.embed = lambda silhouettes: embed(silhouettes) * np.float32(factor)  # type: ignore[method-assign]
        return compare(engine, reference)

    monkeypatch.setattr(agreement, "compare", scaled)
    with np.errstate(invalid="ignore"), pytest.raises(MachineError, match="does not compute this network"):
        export(source, out)
    assert untouched(out)


def test_bad_sources_are_refused(source: Path, out: Path, tmp_path: Path) -> None:
    good = out.parent.parent / "good.gait"
    export(source, good)
    damaged = bytearray(good.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    good.write_bytes(damaged)
    text = tmp_path / "text.safetensors"
    text.write_text("no weights", encoding="ascii")
    cases: list[tuple[Path, type[GaitEdgeError], str]] = [
        (tmp_path / "absent.safetensors", WeightsError, "no weights file at"),
        (tmp_path / "absent.gait", BundleError, "no bundle at"),
        (tmp_path, WeightsError, "no weights file at"),
        (text, WeightsError, "not a readable safetensors file"),
        (good, BundleError, "damaged"),
    ]
    for path, kind, message in cases:
        with pytest.raises(kind, match=message):
            export(path, out)
        assert untouched(out)


def test_bad_destinations_are_refused_before_any_work(source: Path, tmp_path: Path) -> None:
    steps: list[object] = []
    for path, message in [(tmp_path, "is a folder"), (tmp_path / "no" / "a.gait", "there is no folder")]:
        with pytest.raises(BundleError, match=message):
            export(source, path, progress=lambda *step: steps.append(step))
    assert steps == []


def test_unknown_choices_are_refused(source: Path, out: Path) -> None:
    with pytest.raises(InputError, match="unknown target 'tpu'; there are: auto, cpu, onnxruntime, tensorrt"):
        export(source, out, target="tpu")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="unknown precision 'int4'; there are: fp32, fp16, bf16, int8, fp8"):
        export(source, out, precision="int4")  # type: ignore[arg-type]
    assert untouched(out)


def test_a_stop_while_comparing_leaves_what_was_there(
    monkeypatch: pytest.MonkeyPatch, source: Path, out: Path
) -> None:
    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(agreement, "compare", stop)
    with pytest.raises(KeyboardInterrupt):
        export(source, out)
    assert untouched(out)


def test_export_needs_no_torch(source: Path, out: Path) -> None:
    script = """
        import sys
        sys.modules["torch"] = None
        from pathlib import Path
        from gaitedge.export.exporter import export
        print(export(Path(sys.argv[1]), Path(sys.argv[2])).target)
    """
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(script), str(source), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "cpu\n"), done.stderr


def test_the_report_is_plain_data(source: Path, out: Path) -> None:
    report = export(source, out)
    assert isinstance(report, ExportReport)
    assert dataclasses.asdict(report)["agreement"]["reference"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.nodes = 0  # type: ignore[misc]
