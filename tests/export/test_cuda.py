"""From weights to a bundle that the CUDA engine runs: packed, held against the letter, written; or not."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import PAPER
from gpu_box import H200
from kernel_box import KernelBox, kernel_box
from networks import random_silhouettes, random_weights
from typer.testing import CliRunner

from gaitedge.bundle import Bundle
from gaitedge.calibration.applying import find_quantization
from gaitedge.config import GaitPartConfig
from gaitedge.engines import load, load_target
from gaitedge.errors import InputError, MachineError
from gaitedge.export import cuda, packing
from gaitedge.export.agreement import measure
from gaitedge.export.exporter import export, rebuild
from gaitedge.export.quantization import Quantization
from gaitedge.machine import kernels
from gaitedge.machine.cuda_driver import CudaDriver
from gaitedge.weights import fingerprint, save_weights, shipped_weights

TINY = GaitPartConfig(channels=(8, 16), strips=(1, 2, 4, 8), parts=4, embedding_dim=8)


@pytest.fixture
def box(monkeypatch: pytest.MonkeyPatch, host_library: Path) -> Iterator[KernelBox]:
    """Agreement on fewer frames: every thread of a GPU runs on this processor."""
    monkeypatch.setattr(cuda, "SHAPES", ((1, 1), (2, 2), (1, 1), (1, 1)))
    monkeypatch.setattr(cuda, "RAGGED", (2, 1))
    with kernel_box(monkeypatch, host_library) as found:
        yield found


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write(tmp_path, TINY)


def write(folder: Path, config: GaitPartConfig) -> Path:
    path = folder / "weights.safetensors"
    save_weights(path, config, random_weights(config, 0))
    return path


def calibration(config: GaitPartConfig, floating: tuple[str, ...] = ()) -> Quantization:
    """Scales of the layers of the frame network as random weights have them: activations of some units."""
    layers = [f"fconv{layer + 1}" for layer in range(len(config.strips))]
    scales = {"fconv1": 255 / 127, **dict.fromkeys(layers[1:], 8 / 127), "fc": 0.1, "mtb1.squeeze": 0.1}
    kept = tuple((layer, scale) for layer, scale in scales.items() if layer not in floating)
    return Quantization(random_weights(config, 0), kept, 0.1, {}, b"{}")


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_a_bundle_is_written_that_runs(box: KernelBox, source: Path, tmp_path: Path, precision: Any) -> None:
    out = tmp_path / "out.gait"
    report = export(source, out, "cuda", precision)
    bundle = Bundle.open(out)
    target = bundle.manifest.targets[f"cuda-{precision}"]
    assert (target.engine, target.precision, target.agreement) == ("cuda", precision, report.agreement)
    assert target.agreement is not None
    assert target.agreement.relative_error < {"fp16": 5e-3, "fp32": 1e-4}[precision]
    packed = target.packed
    assert packed is not None
    assert packed.member == f"engines/cuda-{precision}.safetensors"
    assert (packed.device, packed.compute_capability) == (H200.name, H200.compute_capability)
    assert packed.versions.keys() == {"cuda", "kernels", "platform"}
    assert (report.target, report.engine, report.build) == (
        "cuda",
        f"CUDA kernels on NVIDIA H200, {precision}, layers, CUDA graphs",
        None,
    )
    engine, cpu = load(bundle), load(bundle, "onnxruntime", precision="fp32")
    box.engines.add(engine)  # type: ignore[arg-type]
    walk = random_silhouettes(1, 3, 5)
    assert measure([engine.embed(walk)], [cpu.embed(walk)], "").relative_error < 5e-3


def test_fp16_is_the_default(box: KernelBox, source: Path, tmp_path: Path) -> None:
    report = export(source, tmp_path / "out.gait", "cuda")
    assert report.precision == "fp16"


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_the_papers_network_is_packed_for_two_launches(
    box: KernelBox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, precision: Any
) -> None:
    """The shipped weights, in int8 with the calibration that comes with them."""
    monkeypatch.setattr(cuda, "SHAPES", ((1, 2), (1, 2)))
    monkeypatch.setattr(cuda, "RAGGED", (1,))
    out, weights = tmp_path / "out.gait", shipped_weights()
    quantization = find_quantization(weights) if precision == "int8" else None
    report = export(weights, out, "cuda", precision, quantization=quantization)
    assert report.engine == f"CUDA kernels on NVIDIA H200, {precision}, two launches, CUDA graphs"
    assert report.agreement is not None
    error = report.agreement.relative_error
    assert (2e-3 < error < 0.2) if precision == "int8" else error < 2e-3
    assert ("calibration.json" in Bundle.open(out).manifest.members) == (precision == "int8")


def test_it_stands_beside_other_targets_and_needs_no_rebuilding(
    box: KernelBox, source: Path, tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime")
    out = tmp_path / "out.gait"
    export(source, out, "onnxruntime")
    export(out, out, "cuda", "fp16")
    export(out, out, "cuda", "fp32")
    bundle = Bundle.open(out)
    assert bundle.manifest.targets.keys() == {"onnxruntime-fp32", "cuda-fp16", "cuda-fp32"}
    assert load_target(bundle, "cuda-fp32").precision == "fp32"
    with pytest.raises(InputError, match="holds no engine that was built for a device"):
        rebuild(out)
    # Another target of the bundle leaves these as they are.
    export(out, out, "onnxruntime")
    assert Bundle.open(out).read("engines/cuda-fp16.safetensors") == bundle.read(
        "engines/cuda-fp16.safetensors"
    )


def test_the_command_says_what_it_wrote(box: KernelBox, source: Path, tmp_path: Path) -> None:
    from gaitedge.cli.app import app

    out = tmp_path / "out.gait"
    done = CliRunner().invoke(app, ["export", str(source), str(out), "--target", "cuda"])
    assert done.exit_code == 0, done.output
    assert "MB, target cuda, fp16" in " ".join(done.output.split())
    assert "engine: CUDA kernels on NVIDIA H200, fp16, layers" in " ".join(done.output.split())
    shown = CliRunner().invoke(app, ["inspect", str(out), "--json"])
    assert json.loads(shown.stdout)["manifest"]["targets"]["cuda-fp16"]["packed"]["device"] == H200.name
    shown = CliRunner().invoke(app, ["inspect", str(out)], env={"COLUMNS": "200"})
    assert "every GPU, checked on NVIDIA H200" in shown.output


def refused(source: Path, out: Path, *arguments: Any, **options: Any) -> str:
    with pytest.raises((InputError, MachineError)) as caught:
        export(source, out, "cuda", *arguments, **options)
    assert "\n" not in str(caught.value)
    assert not out.exists()
    return str(caught.value)


def test_int8_is_for_the_papers_network(box: KernelBox, source: Path, tmp_path: Path) -> None:
    said = refused(source, tmp_path / "out.gait", "int8", quantization=calibration(TINY))
    assert said == (
        "the CUDA kernels have int8 for the paper's network alone (Tab. 1), and this one has "
        "channels (8, 16) and strips (1, 2, 4, 8): take --precision fp16"
    )


def test_int8_wants_every_fconv_in_int8(box: KernelBox, tmp_path: Path) -> None:
    quantization = calibration(PAPER, floating=("fconv1", "fconv4"))
    said = refused(write(tmp_path, PAPER), tmp_path / "out.gait", "int8", quantization=quantization)
    assert "leaves fconv1, fconv4 in floating point: take --precision fp16" in said


def test_an_engine_that_disagrees_is_not_written(
    box: KernelBox, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = cuda.pack

    def wrong(*arguments: Any) -> Any:
        payload = right(*arguments)
        payload.tensors["fc"][0, 0] += 1
        return payload

    monkeypatch.setattr(cuda, "pack", wrong)
    said = refused(source, tmp_path / "out.gait")
    assert "does not compute this network" in said
    assert said.startswith("CUDA kernels on NVIDIA H200, fp16, layers")


def test_choices_that_it_has_not(box: KernelBox, source: Path, tmp_path: Path) -> None:
    said = refused(source, tmp_path / "out.gait", "bf16")
    assert said == "the target cuda has fp32, fp16, int8, not bf16"


def test_without_a_gpu_or_the_library(monkeypatch: pytest.MonkeyPatch, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.gait"
    with kernel_box(monkeypatch, None, CudaDriver("absent", "no libcuda.so.1")):
        assert refused(source, out).startswith("the target cuda needs an NVIDIA GPU")
    monkeypatch.setenv(kernels.VARIABLE, str(tmp_path))
    with kernel_box(monkeypatch, None):
        assert "gaitedge plugins build" in refused(source, out)


def test_on_this_machine_as_it_is(source: Path, tmp_path: Path) -> None:
    """No stand-in here: this machine's own answer, where it has no GPU."""
    from gaitedge.machine.tensorrt import driver

    if driver().devices:
        pytest.skip("this machine has a GPU")
    assert "needs an NVIDIA GPU" in refused(source, tmp_path / "out.gait")


def test_weights_are_packed_as_the_kernels_read_them() -> None:
    weights = random_weights(TINY, 0)
    packed = cuda.pack(TINY, weights, "fp32").tensors
    np.testing.assert_array_equal(packed["frame.1"], weights["frame.1"].transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(packed["mtb2.squeeze"], weights["mtb2.squeeze"].transpose(0, 1, 3, 2))
    np.testing.assert_array_equal(packed["mtb2.excite"], weights["mtb2.excite"].transpose(0, 1, 3, 2))
    np.testing.assert_array_equal(packed["fc"], weights["fc"])


def test_weights_beyond_fp16_are_refused() -> None:
    weights = random_weights(TINY, 0)
    weights["frame.2"][0, 0, 0, 0] = 1e5
    with pytest.raises(InputError, match="a weight of fconv3 is beyond FP16: take --precision fp32"):
        cuda.pack(TINY, weights, "fp16")
    assert cuda.pack(TINY, weights, "fp32").tensors["frame.2"].max() == 1e5


def test_int8_takes_the_equalised_weights_and_the_biases_of_its_calibration() -> None:
    other = random_weights(PAPER, 1)
    bias = np.arange(32, dtype=np.float32)
    quantization = dataclasses.replace(
        calibration(PAPER), weights=other, biases={"fconv2": bias, "mtb1.squeeze": np.zeros((16, 32))}
    )
    payload = cuda.pack(PAPER, random_weights(PAPER, 0), "int8", quantization)
    scales = {f"fconv{layer}": 8 / 127 for layer in range(2, 7)}
    wanted = packing.pack_frame_network(PAPER, other, "int8", scales, {"fconv2": bias})
    np.testing.assert_array_equal(payload.tensors["frame_network"], wanted)
    np.testing.assert_array_equal(payload.tensors["fc"], other["fc"].astype(np.float16))
    assert payload.fingerprint == fingerprint(PAPER, random_weights(PAPER, 0))
