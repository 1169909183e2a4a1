"""Export: weights to graphs to a bundle whose engine was checked against the letter of the paper."""

from __future__ import annotations

import dataclasses
import importlib.util
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from gaitedge.bundle import FOLD_GRAPH, Bundle, check_destination, make_bundle
from gaitedge.engines.cuda import require_kernels
from gaitedge.errors import InputError
from gaitedge.export.build_options import BuildOptions
from gaitedge.export.graph import Plan, build_graph
from gaitedge.export.plan import EIGHT_BITS, GraphPrecision
from gaitedge.export.targets import (
    Made,
    Model,
    Progress,
    build_on_gpu,
    check_graph,
    check_on_cpu,
    is_bundle,
    pack_for_gpu,
    serialize,
)
from gaitedge.files import atomic_write
from gaitedge.machine.tensorrt import driver, lacking, require_tensorrt, version
from gaitedge.manifest import Agreement, Build
from gaitedge.weights import load_weights

if TYPE_CHECKING:
    from gaitedge.export.quantization import Quantization

__all__ = ["ExportReport", "export", "open_model", "rebuild"]

TargetName = Literal["auto", "cpu", "onnxruntime", "tensorrt", "cuda", "portable"]
PrecisionName = Literal["fp32", "fp16", "bf16", "int8", "fp8"]

_DEFAULT: dict[str, PrecisionName] = {
    "cpu": "fp32",
    "onnxruntime": "fp32",
    "tensorrt": "fp16",
    "cuda": "fp16",
    "portable": "fp32",
}
_POSSIBLE = {
    "cpu": ("fp32", "bf16", "int8"),
    "onnxruntime": ("fp32", "int8"),
    "tensorrt": ("fp32", "fp16", "bf16", "int8", "fp8"),
    "cuda": ("fp32", "fp16", "int8"),
    "portable": ("fp32",),
}


@dataclass(frozen=True)
class ExportReport:
    """What an export wrote."""

    path: Path
    target: str
    """"cpu", "onnxruntime", "tensorrt", "cuda" or "portable"."""
    engine: str
    """The description of the engine that was checked, or "none" where none was there."""
    precision: str
    agreement: Agreement | None
    nodes: int
    """Of the graph that the engine runs; 0 where it runs none."""
    seconds: float
    bytes: int
    build: Build | None = None
    """Of an engine that lies in the bundle."""
    missed: str | None = None
    """What keeps "auto" from an engine for the GPU that is here; None where nothing does, or none is."""


def export(
    source: Path,
    out: Path,
    target: TargetName = "auto",
    precision: PrecisionName | None = None,
    plan: Plan | None = None,
    options: BuildOptions | None = None,
    progress: Progress | None = None,
    quantization: Quantization | None = None,
) -> ExportReport:
    """Write a bundle, or an .onnx file alone, and check its engine before it takes its name.

    source: a weights file, or a bundle: one target of it is added or replaced, the others stay. out: a
    name that ends in .onnx gets the graph and nothing else. target: "tensorrt" builds an engine for
    this machine's GPU; "cuda" packs the weights for GaitEdge's own kernels and checks them on the GPU here;
    "cpu" (OpenVINO) and "onnxruntime" need that engine here; "portable" does not (one that is there still
    checks the graph); "auto" is tensorrt, cpu, onnxruntime or portable: the first that this machine has.
    precision: fp16 for tensorrt and cuda and fp32 for the others, if None, or int8 where there is a
    quantization; fp8, E4M3 beside fp16, is for TensorRT from 10 on and for .onnx files. plan: how a TensorRT
    engine's or an .onnx file's graph is written; its precision is `precision`. options: of a TensorRT build.
    progress: called with each step's name. quantization: of these weights, for int8 and fp8.
    Raises WeightsError or BundleError on an unusable source or destination,
    InputError on a choice that the target has not, MachineError where a GPU or an engine is missing, lacks
    the precision, cannot be built, or disagrees with the letter. On any error `out` stays as it was.
    """
    start = time.perf_counter()
    source, out = Path(source), Path(out)
    say = progress or _silent
    _check_names(target, precision)
    check_destination(out)
    wanted = precision or ("int8" if quantization is not None else None)
    if wanted not in EIGHT_BITS and quantization is not None:
        raise InputError(f"{wanted} has no use for a calibration: leave it out, or take --precision int8")
    if wanted in EIGHT_BITS and quantization is None:
        raise InputError(
            f"{wanted} needs a calibration of these weights; run: gaitedge calibrate WEIGHTS STORE "
            f"int8.json, then export with --precision {wanted} --calibration int8.json"
        )
    if out.suffix.lower() == ".onnx":
        if target not in ("auto", "portable"):
            raise InputError(f"{out} is an ONNX file, which is for every target: leave out --target {target}")
        if options is not None:
            raise InputError(f"{out} is an ONNX file, of which nothing is built: leave out a build's options")
        return _export_graph(source, out, wanted or "fp32", plan or Plan(), quantization, say)
    chosen, missed = _present() if target == "auto" else (target, None)
    choice = wanted or _DEFAULT[chosen]
    if choice not in _POSSIBLE[chosen]:
        raise InputError(f"the target {chosen} has {', '.join(_POSSIBLE[chosen])}, not {choice}")
    if chosen != "tensorrt" and (plan is not None or options is not None):
        raise InputError(f"a plan and the options of a build are for the target tensorrt, not for {chosen}")

    if chosen == "tensorrt":
        module = require_tensorrt("building a TensorRT engine")
        model = Model.read(source, say)
        # TensorRT 8 takes scales in FP32 graphs alone, and is told by a flag that it may go lower.
        lower: GraphPrecision = "fp32" if version(module) < (10, 0) else "fp16"
        graph = model.write(_in_precision(plan or Plan(), choice, lower), quantization)
        made = build_on_gpu(model, graph, choice, options or BuildOptions(), say, quantization)
    elif chosen == "cuda":
        require_kernels("the target cuda")
        model = Model.read(source, say)
        made = pack_for_gpu(model, choice, quantization, say)
    else:
        model = Model.read(source, say)
        made = check_on_cpu(model, chosen, choice, quantization, say)
    say("writing the bundle", 0, 0)
    bundle = model.newest(out).bundle({f"{chosen}-{choice}": made}).save(out)
    return _report(bundle, chosen, made, start, missed)


def rebuild(source: Path, out: Path | None = None, progress: Progress | None = None) -> list[ExportReport]:
    """Build every engine of a bundle again, for this machine, from the graphs that lie beside them.

    With the options that they were built with. out: None replaces the bundle itself. Raises InputError
    where the bundle holds no engine, BundleError where it is unusable, MachineError as export does.
    """
    import onnx

    source, say = Path(source), progress or _silent
    if out is not None:
        check_destination(out)
    model = Model.read(source, say)
    stale = [(name, target, target.build) for name, target in model.targets.items() if target.build]
    if model.source is None or not stale:
        where = source if model.source else f"{source} OUT.gait"
        raise InputError(
            f"{source} holds no engine that was built for a device; "
            f"run: gaitedge export {where} --target tensorrt"
        )
    made: dict[str, Made] = {}
    starts = {}
    for name, target, build in stale:
        starts[name] = time.perf_counter()
        graph = onnx.load_from_string(model.source.read(build.graph))
        options = BuildOptions.from_json(build.options)
        made[name] = build_on_gpu(model, graph, target.precision, options, say)
    say("writing the bundle", 0, 0)
    bundle = model.newest(out or source).bundle(made).save(out or source)
    return [_report(bundle, "tensorrt", one, starts[name]) for name, one in made.items()]


def open_model(source: Path) -> Bundle:
    """A bundle, or a weights file as the bundle that exporting it to "portable" would write.

    Raises WeightsError or BundleError where the file is neither.
    """
    source = Path(source)
    if is_bundle(source):
        return Bundle.open(source)
    config, weights = load_weights(source)
    return make_bundle(config, weights, {FOLD_GRAPH: serialize(build_graph(config, weights))}, {})


def _check_names(target: str, precision: str | None) -> None:
    if target not in get_args(TargetName):
        raise InputError(f"unknown target {target!r}; there are: {', '.join(get_args(TargetName))}")
    if precision is not None and precision not in get_args(PrecisionName):
        raise InputError(f"unknown precision {precision!r}; there are: {', '.join(get_args(PrecisionName))}")


def _present() -> tuple[str, str | None]:
    """The target that "auto" is on this machine, and what it lacks for the GPU that is here."""
    missing = lacking()
    if missing is None:
        return "tensorrt", None
    found = driver()
    missed = None
    if found.state == "broken":
        missed = f"the driver is broken: {found.detail}"
    elif found.devices:
        missed = f"{found.devices[0].name} is not used, for {missing}"
    for name, package in (("cpu", "openvino"), ("onnxruntime", "onnxruntime")):
        if importlib.util.find_spec(package) is not None:
            return name, missed
    return "portable", missed


def _in_precision(plan: Plan, precision: PrecisionName, beside_int8: GraphPrecision) -> Plan:
    """The plan in a precision. beside_int8: the type of what is not in int8; beside fp8 it is fp16."""
    if precision == "fp8":
        return dataclasses.replace(plan, precision="fp16", eight_bits="fp8")
    return dataclasses.replace(plan, precision=beside_int8 if precision == "int8" else precision)


def _export_graph(
    source: Path,
    out: Path,
    precision: PrecisionName,
    plan: Plan,
    quantization: Quantization | None,
    say: Progress,
) -> ExportReport:
    """Write one graph as an .onnx file, checked where a runtime is here that computes in its types."""
    start = time.perf_counter()
    model = Model.read(source, say)
    graph = model.write(_in_precision(plan, precision, "fp32"), quantization)
    found, engine = check_graph(model, graph, precision, say)
    data = serialize(graph)
    say("writing the graph", 0, 0)
    with atomic_write(out) as file:
        file.write(data)
    return ExportReport(
        path=out,
        target="portable",
        engine=engine,
        precision=precision,
        agreement=found,
        nodes=len(graph.graph.node),
        seconds=time.perf_counter() - start,
        bytes=len(data),
    )


def _report(bundle: Bundle, target: str, made: Made, start: float, missed: str | None = None) -> ExportReport:
    build = made.target.build
    described = (
        made.engine.description.partition(";")[0] if made.engine else "none"
    )  # without why it was taken
    if build is not None:
        described = f"TensorRT {build.versions['tensorrt']} on {build.device}, {made.target.precision}"
    return ExportReport(
        path=bundle.path,
        target=target,
        engine=described,
        precision=made.target.precision,
        agreement=made.target.agreement,
        nodes=made.nodes,
        seconds=time.perf_counter() - start,
        bytes=bundle.path.stat().st_size,
        build=build,
        missed=missed,
    )


def _silent(*_: object) -> None:
    pass
