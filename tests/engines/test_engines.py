"""Every engine gives the paper's embeddings, from any thread, for any walk, or says why not."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pytest
from bundles import PAPER, SMALL, UNEVEN, bundle_of, letter
from networks import random_silhouettes, random_weights

from gaitedge.bundle import FOLD_GRAPH, make_bundle
from gaitedge.config import GaitPartConfig
from gaitedge.engines import Engine, embed_all, load, load_target
from gaitedge.errors import BundleError, InputError, MachineError, MissingPackage, SilhouetteError
from gaitedge.export.graph import build_graph
from gaitedge.machine.cpu import usable_cores

NAMES = ["openvino", "onnxruntime"]


def hide(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Make packages look as if they were not installed."""
    find = importlib.util.find_spec

    def pretend(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name in names else find(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", pretend)
    for name in names:
        monkeypatch.setitem(sys.modules, name, None)


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(request.param)
    return str(request.param)


@pytest.fixture
def engine(name: str) -> Engine:
    return load(bundle_of(SMALL), name)


@pytest.mark.parametrize("config", [PAPER, SMALL, UNEVEN], ids=["paper", "small", "uneven"])
def test_embeddings_are_those_of_the_papers_letter(name: str, config: GaitPartConfig) -> None:
    engine = load(bundle_of(config), name)
    for seed, (batch, frames) in enumerate([(1, 1), (1, 30), (2, 17), (3, 2)]):
        silhouettes = random_silhouettes(batch, frames, seed)
        expected = letter(config, silhouettes)
        found = engine.embed(silhouettes)
        assert found.shape == (batch, config.parts, config.embedding_dim)
        assert found.dtype == np.float32
        # FP32's rounding; BF16, which OpenVINO takes by itself, is a hundred times further away.
        assert np.abs(found - expected).max() <= 2e-5 * np.abs(expected).max()


def test_an_engine_says_what_it_is(name: str) -> None:
    bundle = bundle_of(SMALL)
    engine = load(bundle, name, threads=1)
    assert engine.name == name
    assert engine.config == SMALL
    assert engine.largest_batch is None
    assert engine.fingerprint == bundle.fingerprint
    assert engine.description.startswith({"openvino": "OpenVINO 2", "onnxruntime": "ONNX Runtime 1"}[name])
    assert engine.description.endswith(", fp32, 1 thread; as asked")
    assert f"{usable_cores()} thread" in load(bundle, name).description


def test_a_batch_is_its_sequences(engine: Engine) -> None:
    silhouettes = random_silhouettes(4, 9, 0)
    together = engine.embed(silhouettes)
    for one, embedding in zip(silhouettes, together, strict=True):
        np.testing.assert_allclose(
            engine.embed(one[None])[0], embedding, rtol=0, atol=1e-5 * np.abs(together).max()
        )


def test_results_are_the_callers_own(engine: Engine) -> None:
    first = engine.embed(random_silhouettes(1, 5, 0))
    kept = first.copy()
    second = engine.embed(random_silhouettes(1, 5, 1))
    np.testing.assert_array_equal(first, kept)
    assert not np.array_equal(first, second)
    first[:] = 0  # writable, and nobody else's
    np.testing.assert_array_equal(engine.embed(random_silhouettes(1, 5, 0)), kept)


def test_any_memory_layout_will_do(engine: Engine, tmp_path: Path) -> None:
    silhouettes = random_silhouettes(2, 6, 0)
    expected = engine.embed(silhouettes)
    np.save(tmp_path / "frames.npy", silhouettes)
    read_only = silhouettes.copy()
    read_only.flags.writeable = False
    for same in (
        np.asfortranarray(silhouettes),
        np.repeat(silhouettes, 2, axis=1)[:, ::2],
        np.load(tmp_path / "frames.npy", mmap_mode="r"),
        read_only,
    ):
        np.testing.assert_array_equal(engine.embed(same), expected)
    np.testing.assert_array_equal(silhouettes, random_silhouettes(2, 6, 0))


def test_threads_do_not_mix_up_each_others_walks(engine: Engine) -> None:
    walks = [random_silhouettes(1, 3 + seed % 5, seed) for seed in range(40)]
    expected = [engine.embed(walk) for walk in walks]
    with ThreadPoolExecutor(8) as pool:
        for found, wanted in zip(pool.map(engine.embed, walks), expected, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((1, 3, 64, 44), np.float32), "must be uint8, 0 to 255, not float32"),
        (np.zeros((1, 3, 64, 44), bool), "must be uint8, 0 to 255, not bool"),
        (
            np.zeros((3, 64, 44), np.uint8),
            r"must be \[batch, frames, 64, 44\], none of them 0, not \[3, 64, 44\]",
        ),
        (np.zeros((1, 3, 64, 64), np.uint8), r"not \[1, 3, 64, 64\]"),
        (np.zeros((1, 0, 64, 44), np.uint8), r"not \[1, 0, 64, 44\]"),
        (np.zeros((0, 3, 64, 44), np.uint8), r"not \[0, 3, 64, 44\]"),
        ([[1]], "must be a NumPy array, not list"),
    ],
)
def test_what_is_no_batch_of_silhouettes_is_refused(engine: Engine, array: object, message: str) -> None:
    with pytest.raises(SilhouetteError, match=message):
        engine.embed(array)  # type: ignore[arg-type]


@pytest.mark.parametrize("graph", [b"", b"no graph", b"\x08\x08"], ids=["empty", "text", "cut"])
def test_a_graph_that_is_none_is_refused_in_one_line(name: str, graph: bytes) -> None:
    with pytest.raises(BundleError, match=r"cannot use graphs/fold\.onnx: .") as caught:
        load(make_bundle(SMALL, random_weights(SMALL, 0), {FOLD_GRAPH: graph}, {}), name)
    assert "\n" not in str(caught.value)


def test_the_graph_of_another_network_is_refused(name: str) -> None:
    graph = build_graph(UNEVEN, random_weights(UNEVEN, 0)).SerializeToString()
    with pytest.raises(BundleError, match=r"graphs/fold\.onnx maps .*256.* its manifest's network .*8"):
        load(make_bundle(SMALL, random_weights(SMALL, 0), {FOLD_GRAPH: graph}, {}), name)


def test_a_bundle_without_graph_is_refused(name: str) -> None:
    with pytest.raises(BundleError, match=r"holds no graphs/fold\.onnx"):
        load(make_bundle(SMALL, random_weights(SMALL, 0), {}, {}), name)


def test_auto_takes_openvino_and_says_why() -> None:
    pytest.importorskip("openvino")
    assert load(bundle_of(SMALL)).description.endswith("; the faster of the engines")


def test_auto_takes_onnx_runtime_where_openvino_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    hide(monkeypatch, "openvino")
    engine = load(bundle_of(SMALL))
    assert engine.name == "onnxruntime"
    assert engine.description.endswith("; OpenVINO is not installed")


def test_without_any_engine_both_commands_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "openvino", "onnxruntime")
    with pytest.raises(MissingPackage, match=r"'gaitedge\[cpu\]' or: pip install 'gaitedge\[onnxruntime\]'"):
        load(bundle_of(SMALL))
    with pytest.raises(MissingPackage, match=r"pip install 'gaitedge\[cpu\]'"):
        load(bundle_of(SMALL), "openvino")
    with pytest.raises(MissingPackage, match=r"pip install 'gaitedge\[onnxruntime\]'"):
        load(bundle_of(SMALL), "onnxruntime")


def test_auto_says_why_it_does_not_take_the_tensorrt_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setattr("gaitedge.engines.lacking", lambda: "no GPU")
    bundle = bundle_of(SMALL, "fp16", target="tensorrt", engine="tensorrt")
    assert load(bundle).description.endswith("; the faster of the engines; not TensorRT: no GPU")


def test_a_target_runs_as_it_was_exported(name: str) -> None:
    target = {"openvino": "cpu", "onnxruntime": "onnxruntime"}[name]
    bundle = bundle_of(SMALL, target=target, engine=name)
    engine = load_target(bundle, f"{target}-fp32", threads=1)
    assert (engine.name, engine.precision) == (name, "fp32")
    assert ", 1 thread" in engine.description
    with pytest.raises(InputError, match=f"not exported for 'cpu-int8'; its targets: {target}-fp32"):
        load_target(bundle, "cpu-int8")


def test_a_portable_target_takes_an_engine_of_the_cpu() -> None:
    pytest.importorskip("openvino")
    assert load_target(bundle_of(SMALL, target="portable", engine="any"), "portable-fp32").name == "openvino"


def test_unknown_choices_are_refused() -> None:
    bundle = bundle_of(SMALL)
    with pytest.raises(InputError, match="unknown engine 'tflite'; there are: auto, tensorrt, openvino"):
        load(bundle, "tflite")
    with pytest.raises(InputError, match="unknown precision 'int4'; there are: int8, fp8, fp16, bf16, fp32"):
        load(bundle, precision="int4")
    with pytest.raises(InputError, match="1 thread or more, not 0"):
        load(bundle, threads=0)
    with pytest.raises(BundleError, match=r"holds no TensorRT engine; run: gaitedge export .* --target t"):
        load(bundle, "tensorrt")


@pytest.mark.parametrize(
    ("name", "has"), [("openvino", "fp32, bf16, int8"), ("onnxruntime", "fp32, int8")], indirect=["name"]
)
def test_a_precision_that_an_engine_never_has_is_refused(name: str, has: str) -> None:
    with pytest.raises(MachineError, match=f"{name} runs in {has}, not in fp8"):
        load(bundle_of(SMALL), name, precision="fp8")


def test_all_embeddings_are_those_of_one_by_one(engine: Engine) -> None:
    sequences = [random_silhouettes(1, frames, frames)[0] for frames in (4, 2, 4, 7, 2, 4)]
    found = embed_all(engine, sequences)
    for sequence, embedding in zip(sequences, found, strict=True):
        np.testing.assert_allclose(
            embedding, engine.embed(sequence[None])[0], rtol=0, atol=1e-5 * np.abs(found).max()
        )
    assert embed_all(engine, []).shape == (0, SMALL.parts, SMALL.embedding_dim)


def run_cold(code: str, *arguments: str) -> str:
    script = textwrap.dedent(code)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("which", ["auto", "onnxruntime"])
def test_a_cold_start_is_quick_and_small(tmp_path: Path, which: str) -> None:
    """A cold process opens a bundle and embeds 60 frames: CPU seconds, peak memory, what it imports."""
    pytest.importorskip("openvino" if which == "auto" else which)
    bundle_of(PAPER).save(tmp_path / "paper.gait")
    out = run_cold(
        """
        import sys, time
        from pathlib import Path
        import numpy as np
        from gaitedge.bundle import Bundle
        from gaitedge.engines import load
        engine = load(Bundle.open(Path(sys.argv[1])), sys.argv[2], threads=1)
        engine.embed(np.random.default_rng(0).integers(0, 256, (1, 60, 64, 44), dtype=np.uint8))
        peak = [line for line in open("/proc/self/status") if line.startswith("VmHWM")][0].split()[1]
        print(int(peak) / 1024, *({"torch", "onnx"} & sys.modules.keys()))
        """,
        str(tmp_path / "paper.gait"),
        which,
    )
    megabytes, *heavy = out.split()
    assert float(megabytes) < 500
    assert heavy == []


def test_importing_the_package_costs_no_runtime() -> None:
    out = run_cold(
        """
        import sys
        import gaitedge.engines, gaitedge.engines.openvino, gaitedge.engines.onnxruntime
        import gaitedge.profiling.measuring
        print(*({"openvino", "onnxruntime", "torch", "onnx", "safetensors"} & sys.modules.keys()))
        """
    )
    assert out.split() == []


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_a_signal_does_no_harm_after_engines_have_come_and_gone(name: str, tmp_path: Path) -> None:
    bundle_of(SMALL).save(tmp_path / "walkers.gait")
    code = """
    import gc, signal, sys
    from pathlib import Path
    from gaitedge.bundle import Bundle
    from gaitedge.engines import load
    bundle = Bundle.open(Path(sys.argv[1]))
    engines = [load(bundle, sys.argv[2]) for _ in range(3)]
    while engines:
        engines.pop(0)
        gc.collect()
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        print("interrupted")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "walkers.gait"), name],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "interrupted\n", "")
