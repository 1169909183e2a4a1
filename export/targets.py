"""How a target of a bundle is made: a graph, an engine for it, and both held against the paper's letter."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gaitedge.bundle import FOLD_GRAPH, FRAMES_GRAPH, Bundle, make_bundle
from gaitedge.config import GaitPartConfig
from gaitedge.engines import Choice, load, load_target
from gaitedge.errors import BundleError
from gaitedge.export import agreement, cuda, tensorrt
from gaitedge.export.build_options import BuildOptions
from gaitedge.export.graph import Plan, build_frame_graph, build_graph, without_functions
from gaitedge.export.plan import EIGHT_BITS
from gaitedge.machine.cpu import usable_cores
from gaitedge.machine.tensorrt import require_tensorrt
from gaitedge.manifest import Agreement, Build, Target
from gaitedge.weights import load_weights

if TYPE_CHECKING:
    from onnx import ModelProto

    from gaitedge.engines import Engine
    from gaitedge.export.quantization import Quantization
    from gaitedge.weights import Weights

__all__ = [
    "CALIBRATION",
    "Made",
    "Model",
    "Progress",
    "build_on_gpu",
    "check_graph",
    "check_on_cpu",
    "is_bundle",
    "pack_for_gpu",
    "serialize",
]

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and of how much; 0 where that is not known."""

CALIBRATION = "calibration.json"


@dataclass(frozen=True)
class Made:
    """A target, ready to be written."""

    target: Target
    members: Mapping[str, bytes]
    """What it needs in the bundle beside what every bundle has."""
    nodes: int
    """Of the graph that its engine runs; 0 where it runs none."""
    engine: Engine | None = None
    """What was checked; None where nothing was there to check, or it was given back."""


@dataclass(frozen=True)
class Model:
    """What is exported: weights, the graphs that every bundle has, and the bundle that they come from."""

    config: GaitPartConfig
    weights: Weights
    graph: ModelProto
    graphs: Mapping[str, bytes]
    source: Bundle | None

    @classmethod
    def read(cls, source: Path, say: Progress) -> Model:
        """Read a weights file or a bundle, and write the graphs. Raises WeightsError or BundleError."""
        say("reading the weights", 0, 0)
        bundle = Bundle.open(source) if is_bundle(source) else None
        config, weights = (bundle.config, bundle.weights()) if bundle else load_weights(source)
        say("writing the graph", 0, 0)
        graph = checked(build_graph(config, weights))
        frames = checked(build_frame_graph(config, weights))
        graphs = {FOLD_GRAPH: serialize(graph), FRAMES_GRAPH: serialize(frames)}
        return cls(config, weights, graph, graphs, bundle)

    @property
    def targets(self) -> dict[str, Target]:
        """Those of the bundle that the model comes from."""
        return dict(self.source.manifest.targets) if self.source else {}

    @property
    def _calibration(self) -> bytes | None:
        """The one in the bundle that the model comes from."""
        if self.source is None or CALIBRATION not in self.source.manifest.members:
            return None
        return self.source.read(CALIBRATION)

    def newest(self, out: Path) -> Model:
        """The model, with what the bundle at `out` holds now where that is the one it comes from: another
        export may have added a target since. Raises BundleError where it became another model's."""
        if self.source is None or not out.exists() or not out.samefile(self.source.path):
            return self
        now = Bundle.open(out)
        if now.fingerprint != self.source.fingerprint:
            raise BundleError(f"{out} became another model's bundle meanwhile; export to another name")
        return dataclasses.replace(self, source=now)

    def write(self, plan: Plan, quantization: Quantization | None) -> ModelProto:
        """A graph of the model, checked. Raises InputError where the plan does not fit the model."""
        if quantization is None:
            return checked(build_graph(self.config, self.weights, plan))
        plan = dataclasses.replace(plan, scales=quantization.scales)
        return checked(build_graph(self.config, quantization.weights, plan, quantization.biases))

    def bundle(self, made: Mapping[str, Made]) -> Bundle:
        """A bundle with what the source has already, and these targets."""
        parts = dict(self.graphs)
        for one in made.values():
            parts.update(one.members)
        targets = {**self.targets, **{name: one.target for name, one in made.items()}}
        if self.source is not None and parts.get(CALIBRATION, self._calibration) != self._calibration:
            # The bundle keeps one calibration, and int8 by another one would not be what it says.
            targets = {
                name: one for name, one in targets.items() if name in made or one.precision not in EIGHT_BITS
            }
        if self.source is not None:
            wanted = [name for target in targets.values() for name in target.members]
            wanted += [CALIBRATION] if self._calibration is not None else []
            parts.update({name: self.source.read(name) for name in wanted if name not in parts})
        return make_bundle(self.config, self.weights, parts, targets)


def check_on_cpu(
    model: Model, name: str, precision: str, quantization: Quantization | None, say: Progress
) -> Made:
    """Compile a graph for this machine's CPU and hold it against the letter.

    name: "cpu", "onnxruntime" or "portable". Raises MissingPackage without the engine, MachineError where
    it lacks the precision or disagrees.
    """
    graph, members, member = model.graph, {}, None
    if quantization is not None:
        member = f"graphs/{name}-{precision}.onnx"
        plan = Plan(placement="chain")
        if name == "onnxruntime":  # has int8 kernels where int8 comes in and goes out, channels last
            plan = Plan("fold_nhwc", placement="chain")
            # None for grouped convolutions, which would be rounded for nothing.
            scales = [scale for scale in quantization.scales if not scale[0].startswith("mtb")]
            if quantization.pooled is not None:
                scales.append(("hp", quantization.pooled))
            biases = {one: bias for one, bias in quantization.biases.items() if not one.startswith("mtb")}
            quantization = dataclasses.replace(quantization, scales=tuple(scales), biases=biases)
        graph = model.write(plan, quantization)
        members = {member: serialize(graph), CALIBRATION: quantization.record}
    engine_name = {"cpu": "openvino", "onnxruntime": "onnxruntime", "portable": "any"}[name]
    target = Target(engine_name, precision, graph=member)
    nodes = len(graph.graph.node)
    present = any(importlib.util.find_spec(package) for package in ("openvino", "onnxruntime"))
    if name == "portable" and not present:
        return Made(target, members, nodes)
    say("building the engine", 0, 0)
    full = f"{name}-{precision}"
    engine = load_target(
        make_bundle(model.config, model.weights, {**model.graphs, **members}, {full: target}), full
    )
    say("comparing it with the letter of the paper", 0, 0)
    found = agreement.compare(engine, agreement.letter(model.config, model.weights))
    agreement.check_agreement(engine.description, engine.precision, found)
    return Made(dataclasses.replace(target, agreement=found), members, nodes, engine)


def build_on_gpu(
    model: Model,
    graph: ModelProto,
    precision: str,
    options: BuildOptions,
    say: Progress,
    quantization: Quantization | None = None,
) -> Made:
    """Build a TensorRT engine for this machine's GPU and hold it against the letter.

    Raises MachineError without a GPU, where the build fails or its engine disagrees, MissingPackage
    without TensorRT, Polygraphy, or a CPU's engine to run the letter.
    """
    require_tensorrt("building a TensorRT engine")
    agreement.require_runner()
    reference = agreement.letter(model.config, model.weights)  # what lacks shows before the long part
    data = serialize(without_functions(graph))
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
        multiprocessors=built.device.multiprocessors,
    )
    members = {build.graph: data, build.member: built.plan}
    if quantization is not None:
        members[CALIBRATION] = quantization.record
    target = Target("tensorrt", precision, None, build)
    say("comparing it with the letter of the paper", 0, 0)
    trial = make_bundle(model.config, model.weights, {**model.graphs, **members}, {})
    found = agreement.compare_plan(trial, target, reference, _shapes(options))
    return Made(dataclasses.replace(target, agreement=found), members, len(graph.graph.node))


def pack_for_gpu(model: Model, precision: str, quantization: Quantization | None, say: Progress) -> Made:
    """Pack weights for the CUDA kernels, run them on this machine's GPU and hold them against the letter.

    Raises what gaitedge.export.cuda.make does, and MissingPackage without a CPU's engine to run the letter.
    """
    reference = agreement.letter(model.config, model.weights)
    say("comparing it with the letter of the paper", 0, 0)
    target, members, engine = cuda.make(model.config, model.weights, precision, quantization, reference)
    if quantization is not None:
        members[CALIBRATION] = quantization.record
    return Made(target, members, 0, engine)


def check_graph(
    model: Model, graph: ModelProto, precision: str, say: Progress
) -> tuple[Agreement | None, str]:
    """Hold a graph that goes out alone against the letter, and name what ran it; None and "none" where
    nothing here computes in its types."""
    if precision == "bf16" or importlib.util.find_spec("onnxruntime") is None:
        return None, "none"
    say("comparing it with the letter of the paper", 0, 0)
    bundle = make_bundle(model.config, model.weights, {FOLD_GRAPH: serialize(graph)}, {})
    if precision == "fp8":  # no engine of a CPU's, only a way to compute what TensorRT will
        from gaitedge.engines.onnxruntime import OnnxRuntimeEngine

        why = "to be compared"
        engine: Engine = OnnxRuntimeEngine(bundle, Choice(usable_cores(), precision, False, why, FOLD_GRAPH))
    else:
        engine = load(bundle, "onnxruntime")
    found = agreement.compare(engine, agreement.letter(model.config, model.weights))
    agreement.check_agreement(engine.description, precision, found)
    # It computes in what the graph says, whatever a bundle's graph would be; nor why it was taken.
    return found, engine.description.partition(";")[0].replace(", fp32,", f", {precision},")


def is_bundle(path: Path) -> bool:
    """Whether a file is a bundle, by its name or its first bytes."""
    if path.suffix == ".gait" or not path.is_file():
        return path.suffix == ".gait"
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def serialize(graph: ModelProto) -> bytes:
    """The graph's bytes; the same ones for the same graph."""
    return bytes(graph.SerializeToString(deterministic=True))


def checked(graph: ModelProto) -> ModelProto:
    """The graph, once ONNX' own checker and its shape inference have passed it."""
    import onnx

    onnx.checker.check_model(graph, full_check=True)
    return graph


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
    # The optimum three times: our runtime records a CUDA graph at the second, and replays it at the third.
    return [*sorted(shapes), *[(batch.optimum, frames.optimum)] * 2]
