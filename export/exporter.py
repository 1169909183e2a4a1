"""Export: weights to graphs to a bundle whose engine was checked against the letter of the paper."""

from __future__ import annotations

import dataclasses
import importlib.util
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from gaitedge.bundle import FOLD_GRAPH, FRAMES_GRAPH, Bundle, check_destination, make_bundle
from gaitedge.config import GaitPartConfig
from gaitedge.engines import load
from gaitedge.errors import InputError, require
from gaitedge.export import agreement, tensorrt
from gaitedge.export.graph import Plan, build_frame_graph, build_graph, without_functions
from gaitedge.export.tensorrt import BuildOptions
from gaitedge.files import atomic_write
from gaitedge.machine.tensorrt import lacking, require_tensorrt
from gaitedge.manifest import Agreement, Build, Target
from gaitedge.weights import load_weights

if TYPE_CHECKING:
    from onnx import ModelProto

    from gaitedge.engines import Engine
    from gaitedge.weights import Weights

__all__ = ["ExportReport", "export", "open_model", "rebuild"]

TargetName = Literal["auto", "cpu", "onnxruntime", "tensorrt", "portable"]
PrecisionName = Literal["fp32", "fp16", "bf16"]
Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and of how much; 0 where that is not known."""

_DEFAULT: dict[str, PrecisionName] = {
    "cpu": "fp32",
    "onnxruntime": "fp32",
    "tensorrt": "fp16",
    "portable": "fp32",
}
_POSSIBLE = {
    "cpu": ("fp32", "bf16"),
    "onnxruntime": ("fp32",),
    "tensorrt": ("fp32", "fp16", "bf16"),
    "portable": ("fp32",),
}


@dataclass(frozen=True)
class ExportReport:
    """What an export wrote."""

    path: Path
    target: str
    """"cpu", "onnxruntime", "tensorrt" or "portable"."""
    engine: str
    """The description of the engine that was checked, or "none" where none was there."""
    precision: str
    agreement: Agreement | None
    nodes: int
    """Of the graph that the engine runs."""
    seconds: float
    bytes: int
    build: Build | None = None
    """Of an engine that lies in the bundle."""


def export(
    source: Path,
    out: Path,
    target: TargetName = "auto",
    precision: PrecisionName | None = None,
    plan: Plan | None = None,
    options: BuildOptions | None = None,
    progress: Progress | None = None,
) -> ExportReport:
    """Write a bundle, or an .onnx file alone, and check its engine before it takes its name.

    source: a weights file, or a bundle: one target of it is added or replaced, the others stay. out: a
    name that ends in .onnx gets the graph and nothing else. target: "tensorrt" builds an engine for
    this machine's GPU; "cpu" (OpenVINO) and "onnxruntime" need that engine here; "portable" does not
    (one that is there still checks the graph); "auto" is the first of them that this machine has.
    precision: fp16 for tensorrt and fp32 for the others, if None. plan: how a TensorRT engine's or an
    .onnx file's graph is written; its precision is `precision`. options: of a TensorRT build. progress:
    called with each step's name. Raises WeightsError or BundleError on an unusable source or
    destination, InputError on a choice that the target has not, MachineError where a GPU or an engine
    is missing, lacks the precision, cannot be built, or disagrees with the letter. On any error `out`
    stays as it was.
    """
    start = time.perf_counter()
    source, out = Path(source), Path(out)
    say = progress or _silent
    if target not in get_args(TargetName):
        raise InputError(f"unknown target {target!r}; there are: {', '.join(get_args(TargetName))}")
    if precision is not None and precision not in get_args(PrecisionName):
        raise InputError(f"unknown precision {precision!r}; there are: {', '.join(get_args(PrecisionName))}")
    check_destination(out)
    if out.suffix == ".onnx":
        if target not in ("auto", "portable"):
            raise InputError(f"{out} is an ONNX file, which is for every target: leave out --target {target}")
        return _export_graph(
            source, out, dataclasses.replace(plan or Plan(), precision=precision or "fp32"), say
        )
    chosen = _present() if target == "auto" else target
    choice = precision or _DEFAULT[chosen]
    if choice not in _POSSIBLE[chosen]:
        raise InputError(f"the target {chosen} has {' and '.join(_POSSIBLE[chosen])}, not {choice}")
    if chosen != "tensorrt" and (plan is not None or options is not None):
        raise InputError(f"a plan and the options of a build are for the target tensorrt, not for {chosen}")

    model = _Model.read(source, say)
    if chosen == "tensorrt":
        require_tensorrt("building a TensorRT engine")
        graph = _checked(
            build_graph(model.config, model.weights, dataclasses.replace(plan or Plan(), precision=choice))
        )
        entry, members = _build(model, graph, choice, options or BuildOptions(), say)
        engine = None
    else:
        entry, engine = _check_on_cpu(model, chosen, choice, say)
        graph, members = model.graph, {}
    say("writing the bundle", 0, 0)
    bundle = model.bundle({f"{chosen}-{choice}": entry}, members).save(out)
    return _report(bundle, chosen, entry, engine, len(graph.graph.node), start)


def rebuild(source: Path, out: Path | None = None, progress: Progress | None = None) -> list[ExportReport]:
    """Build every engine of a bundle again, for this machine, from the graphs that lie beside them.

    With the options that they were built with. out: None replaces the bundle itself. Raises InputError
    where the bundle holds no engine, BundleError where it is unusable, MachineError as export does.
    """
    import onnx

    out = check_destination(Path(out or source))
    say = progress or _silent
    model = _Model.read(Path(source), say)
    stale = [(name, target, target.build) for name, target in model.targets.items() if target.build]
    if model.source is None or not stale:
        where = source if model.source else f"{source} OUT.gait"
        raise InputError(
            f"{source} holds no engine that was built for a device; "
            f"run: gaitedge export {where} --target tensorrt"
        )
    built: dict[str, Target] = {}
    members: dict[str, bytes] = {}
    done = []
    for name, target, build in stale:
        start = time.perf_counter()
        graph = onnx.load_from_string(model.source.read(build.graph))
        options = BuildOptions.from_json(build.options)
        built[name], parts = _build(model, graph, target.precision, options, say)
        members |= parts
        done.append((built[name], len(graph.graph.node), start))
    say("writing the bundle", 0, 0)
    bundle = model.bundle(built, members).save(out)
    return [_report(bundle, "tensorrt", entry, None, nodes, start) for entry, nodes, start in done]


def open_model(source: Path) -> Bundle:
    """A bundle, or a weights file as the bundle that exporting it to "portable" would write.

    Raises WeightsError or BundleError where the file is neither.
    """
    source = Path(source)
    if _is_bundle(source):
        return Bundle.open(source)
    config, weights = load_weights(source)
    return make_bundle(config, weights, {FOLD_GRAPH: _serialize(build_graph(config, weights))}, {})


@dataclass(frozen=True)
class _Model:
    """What is exported: weights, the graphs that every bundle has, and the bundle that they come from."""

    config: GaitPartConfig
    weights: Weights
    graph: ModelProto
    graphs: Mapping[str, bytes]
    source: Bundle | None

    @classmethod
    def read(cls, source: Path, say: Progress) -> _Model:
        say("reading the weights", 0, 0)
        bundle = Bundle.open(source) if _is_bundle(source) else None
        config, weights = (bundle.config, bundle.weights()) if bundle else load_weights(source)
        say("writing the graph", 0, 0)
        graph = _checked(build_graph(config, weights))
        frames = _checked(build_frame_graph(config, weights))
        graphs = {FOLD_GRAPH: _serialize(graph), FRAMES_GRAPH: _serialize(frames)}
        return cls(config, weights, graph, graphs, bundle)

    @property
    def targets(self) -> dict[str, Target]:
        return dict(self.source.manifest.targets) if self.source else {}

    def bundle(self, targets: Mapping[str, Target], members: Mapping[str, bytes]) -> Bundle:
        """A bundle with what the source has already, these targets and these members."""
        everything = {**self.targets, **targets}
        kept = {
            name: self.source.read(name)
            for target in everything.values()
            if target.build is not None and self.source is not None
            for name in (target.build.graph, target.build.member)
            if name not in members
        }
        return make_bundle(self.config, self.weights, {**self.graphs, **kept, **members}, everything)


def _plan(plan: Plan | None, precision: PrecisionName) -> Plan:
    return dataclasses.replace(plan or Plan(), precision=precision)


def _present() -> str:
    """The target that "auto" is on this machine."""
    if lacking() is None:
        return "tensorrt"
    for name, package in (("cpu", "openvino"), ("onnxruntime", "onnxruntime")):
        if importlib.util.find_spec(package) is not None:
            return name
    return "portable"


def _check_on_cpu(model: _Model, target: str, precision: str, say: Progress) -> tuple[Target, Engine | None]:
    """Compile the portable graph for this machine's CPU and hold it against the letter."""
    names = {"cpu": "openvino", "onnxruntime": "onnxruntime", "portable": "auto"}
    present = any(importlib.util.find_spec(name) for name in ("openvino", "onnxruntime"))
    if target == "portable" and not present:
        return Target("any", precision), None
    say("building the engine", 0, 0)
    engine = load(make_bundle(model.config, model.weights, model.graphs, {}), names[target], None, precision)
    say("comparing it with the letter of the paper", 0, 0)
    found = agreement.compare(engine, agreement.letter(model.config, model.weights))
    agreement.check_agreement(engine.description, engine.precision, found)
    return Target("any" if target == "portable" else engine.name, precision, found), engine


def _build(
    model: _Model, graph: ModelProto, precision: str, options: BuildOptions, say: Progress
) -> tuple[Target, dict[str, bytes]]:
    """Build a TensorRT engine for this machine's GPU and hold it against the letter."""
    require_tensorrt("building a TensorRT engine")
    require("polygraphy", "checking a TensorRT engine")
    reference = agreement.letter(model.config, model.weights)  # what lacks shows before the long part
    data = _serialize(without_functions(graph))
    say("building the engine", 0, 0)
    built = tensorrt.build(data, precision, options, say)
    build = Build(
        member=f"engines/tensorrt-{precision}.plan",
        graph=f"graphs/tensorrt-{precision}.onnx",
        device=built.device.name,
        compute_capability=built.device.compute_capability,
        versions=built.versions,
        options=options.to_json(),
        seconds=built.seconds,
        layers=built.layers,
        fell_back=built.fell_back,
    )
    members = {build.graph: data, build.member: built.plan}
    entry = Target("tensorrt", precision, None, build)
    say("comparing it with the letter of the paper", 0, 0)
    trial = make_bundle(model.config, model.weights, {**model.graphs, **members}, {})
    found = agreement.compare_plan(trial, entry, reference, _shapes(options))
    return dataclasses.replace(entry, agreement=found), members


def _shapes(options: BuildOptions) -> list[tuple[int, int]]:
    """Batch and frames on which a plan is checked: corners of its profile that the letter runs in seconds."""
    batch, frames = options.batch, options.frames
    several = max(batch.minimum, min(batch.maximum, 4))
    long = max(frames.minimum, min(frames.maximum, 2 * frames.optimum))
    shapes = {
        (batch.minimum, frames.minimum),
        (batch.optimum, frames.optimum),
        (several, frames.optimum),
        (batch.minimum, long),
    }
    return sorted(shapes)


def _silent(*_: object) -> None:
    pass


def _export_graph(source: Path, out: Path, plan: Plan, say: Progress) -> ExportReport:
    """Write one graph as an .onnx file, checked where a runtime is here that computes in its types."""
    start = time.perf_counter()
    model = _Model.read(source, say)
    graph = _checked(build_graph(model.config, model.weights, plan))
    data = _serialize(graph)
    found, engine = None, None
    if plan.precision != "bf16" and importlib.util.find_spec("onnxruntime") is not None:
        say("comparing it with the letter of the paper", 0, 0)
        trial = make_bundle(model.config, model.weights, {FOLD_GRAPH: data}, {})
        engine = load(trial, "onnxruntime")
        found = agreement.compare(engine, agreement.letter(model.config, model.weights))
        agreement.check_agreement(engine.description, plan.precision, found)
    say("writing the graph", 0, 0)
    with atomic_write(out) as file:
        file.write(data)
    return ExportReport(
        path=out,
        target="portable",
        engine=engine.description if engine else "none",
        precision=plan.precision,
        agreement=found,
        nodes=len(graph.graph.node),
        seconds=time.perf_counter() - start,
        bytes=len(data),
    )


def _report(
    bundle: Bundle, target: str, entry: Target, engine: Engine | None, nodes: int, start: float
) -> ExportReport:
    build = entry.build
    described = engine.description if engine else "none"
    if build is not None:
        described = f"TensorRT {build.versions['tensorrt']} on {build.device}, {entry.precision}"
    return ExportReport(
        path=bundle.path,
        target=target,
        engine=described,
        precision=entry.precision,
        agreement=entry.agreement,
        nodes=nodes,
        seconds=time.perf_counter() - start,
        bytes=bundle.path.stat().st_size,
        build=build,
    )


def _is_bundle(path: Path) -> bool:
    if path.suffix == ".gait" or not path.is_file():
        return path.suffix == ".gait"
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _serialize(graph: ModelProto) -> bytes:
    return bytes(graph.SerializeToString(deterministic=True))


def _checked(graph: ModelProto) -> ModelProto:
    """The graph, once ONNX' own checker and its shape inference have passed it."""
    import onnx

    onnx.checker.check_model(graph, full_check=True)
    return graph
