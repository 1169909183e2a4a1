"""What a machine reaches: in the type that was asked, by work whose size is known."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import pytest

from gaitedge.engines.openvino import has_bf16
from gaitedge.errors import InputError, MachineError
from gaitedge.machine.cpu import cpu_features
from gaitedge.profiling import roofline as module
from gaitedge.profiling.document import Configuration
from gaitedge.profiling.roofline import PRODUCTS, Product, measure_roofline, product_graph, products

VNNI = {"avx512_vnni", "avx_vnni", "amx_int8"}
TINY = (Product((2, 16, 8, 8)), Product((64, 64)))


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Little to multiply and to copy."""
    monkeypatch.setattr(module, "PRODUCTS", TINY)
    monkeypatch.setattr(module, "_SMALLEST", 1 << 20)
    monkeypatch.setattr(module, "CACHES", tmp_path)


def row(engine: str, precision: str = "fp32", threads: int | None = 2) -> Configuration:
    return Configuration(engine, precision, "fused", 1, 30, threads, 1)


@pytest.mark.parametrize("quantised", [False, True])
@pytest.mark.parametrize("product", [*PRODUCTS, *TINY], ids=str)
def test_a_product_is_a_graph_of_as_much_work_as_it_says(product: Product, quantised: bool) -> None:
    graph = product_graph(product, quantised, np.random.default_rng(0))
    onnx.checker.check_model(graph, full_check=True)
    macs = 0
    shapes = {one.name: tuple(one.dims) for one in graph.graph.initializer}
    for node in graph.graph.node:
        if node.op_type in ("Conv", "MatMul"):
            weight = shapes.get(node.input[1]) or shapes[f"{node.name}.quantised"]
            macs += math.prod(product.shape) * math.prod(weight[1:])
    assert macs == product.macs


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    ("engine", "precision"),
    [
        ("openvino", "fp32"),
        ("openvino", "bf16"),
        ("openvino", "int8"),
        ("onnxruntime", "fp32"),
        ("onnxruntime", "int8"),
    ],
)
def test_the_runtime_computes_it_in_the_type_that_was_asked(engine: str, precision: str) -> None:
    pytest.importorskip(engine)
    if precision == "bf16" and not has_bf16():
        pytest.skip("this processor has no BF16 instructions")
    if precision == "int8" and VNNI.isdisjoint(cpu_features()):
        pytest.skip("this processor has none of the int8 instructions of x86")
    assert [product for _, product, _ in products(engine, precision, 1)] == list(TINY)
    found = measure_roofline(row(engine, precision), seconds=0.01)
    assert found.precision == precision
    assert min(found.macs_per_second, found.bytes_per_second) > 0
    assert f", {precision}, 2 threads: 3 " in found.how
    assert "copies of 1 MiB" in found.how


@pytest.mark.usefixtures("tiny")
def test_a_type_that_the_runtime_replaces_is_refused() -> None:
    """ONNX Runtime on a CPU has no BF16: what it computes instead is no roof of BF16."""
    pytest.importorskip("onnxruntime")
    with pytest.raises(MachineError, match="onnxruntime computes no product in bf16 on this machine"):
        measure_roofline(row("onnxruntime", "bf16"), seconds=0.01)


@pytest.mark.parametrize("seconds", [0, -1, math.nan, math.inf])
def test_a_roofline_takes_time(seconds: float) -> None:
    with pytest.raises(InputError, match="more than 0 seconds"):
        measure_roofline(row("openvino"), seconds=seconds)


def test_another_engine_has_no_roofline() -> None:
    with pytest.raises(InputError, match="no roofline can be measured with the engine 'pytorch'"):
        measure_roofline(row("pytorch"))


@pytest.mark.parametrize(
    ("sizes", "mebibytes"),
    [
        ([], 64),
        (["48K", "1024K", "8192K"], 64),
        (["48K", "2M", "32768K"], 128),
        (["1G"], 1024),
        (["odd"], 64),
    ],
    ids=str,
)
def test_a_copy_is_larger_than_the_caches(
    sizes: list[str], mebibytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, size in enumerate(sizes):
        (tmp_path / f"index{number}").mkdir()
        (tmp_path / f"index{number}" / "size").write_text(f"{size}\n")
    monkeypatch.setattr(module.os, "sysconf", lambda name: 1 << 20 if name == "SC_PHYS_PAGES" else 1 << 14)
    assert module._copy_size(tmp_path) == mebibytes << 20
    monkeypatch.setattr(module.os, "sysconf", lambda name: 1 << 14)
    assert module._copy_size(tmp_path) <= 32 << 20


def test_the_fastest_run_counts_and_the_first_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 5.0, 9.0, 9.5, 13.0, 13.4, 20.0, 21.0])
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(clock))
    calls = []
    # A run of 4 s: then, as there is time left, or too few runs so far, others of 3.5, 6.6 …
    assert module._fastest(lambda: calls.append(1), 0.5) == pytest.approx(0.4)
    assert len(calls) == 4
