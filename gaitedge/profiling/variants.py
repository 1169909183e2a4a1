"""A bundle in another form of its graph: the paper's letter, fused, or with our plugins.

"exported" is the bundle as it is. The other forms are written anew from its weights, once each, into a
temporary folder. int8 takes the calibration that lies in the bundle.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, TypeGuard, get_args

from gaitedge.bundle import FOLD_GRAPH, Bundle, make_bundle
from gaitedge.engines import of_the_cpu
from gaitedge.errors import GaitEdgeError, InputError, MachineError, one_line
from gaitedge.machine.tensorrt import lacking
from gaitedge.manifest import Target

if TYPE_CHECKING:
    from gaitedge.export.exporter import PrecisionName
    from gaitedge.export.plan import Plan

__all__ = ["PlanName", "Variants", "check_plan"]

PlanName = Literal["exported", "naive", "fused", "plugin"]


class Variants:
    """The forms of one bundle, each made when it is first asked for. A context, which deletes them.

    bundle: as it was exported.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._made: dict[tuple[str, str, str | None], Path | GaitEdgeError] = {}
        self._as_opened = _identity(bundle.path)

    def __enter__(self) -> Variants:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._folder is not None:
            self._folder.cleanup()

    def check_unchanged(self) -> None:
        """Raise InputError where another file stands in the bundle's place by now."""
        if _identity(self._bundle.path) != self._as_opened:
            raise InputError(
                f"{self._bundle.path} was replaced or taken away while it was measured: leave it there, and "
                "measure again"
            )

    def find(self, plan: str, engine: str, precision: str | None) -> tuple[Path, str, str | None]:
        """The bundle of a form, and the engine and precision to load from it.

        engine: or "auto"; precision: None is that of the bundle's own target. Raises GaitEdgeError where the
        form is not to be had: in this precision, for this engine, or on this machine.
        """
        if plan == "exported":
            return self._bundle.path, engine, precision
        runtime, kind = self._settle(plan, engine, precision)
        key = (plan, runtime, kind)
        if key not in self._made:
            self._folder = self._folder or tempfile.TemporaryDirectory(prefix="gaitedge-bench-")
            path = Path(self._folder.name) / f"{plan}-{runtime}-{kind}.gait"
            try:
                self._make(plan, runtime, kind, path)
                self._made[key] = path
            except GaitEdgeError as error:
                self._made[key] = error  # once more would take as long and fail again
        made = self._made[key]
        if isinstance(made, GaitEdgeError):
            raise MachineError(f"there is no {plan} form in {kind} for {runtime}: {one_line(made)}")
        return made, runtime, kind

    def _settle(self, plan: str, engine: str, precision: str | None) -> tuple[str, str]:
        """The runtime that "auto" takes for this form, and the precision of its target in the bundle."""
        manifest = self._bundle.manifest
        if engine == "auto":
            on_gpu = lacking() is None and (
                plan == "plugin" or manifest.target("tensorrt", precision) is not None
            )
            engine = "tensorrt" if on_gpu else of_the_cpu(self._bundle)[0]
        if engine == "cuda":
            raise InputError("the CUDA kernels have one form: take the plan exported, or another engine")
        if plan == "plugin" and engine != "tensorrt":
            raise InputError(f"plugins are TensorRT's, not {engine}'s: take the engine tensorrt")
        if precision is None:
            names = {
                "tensorrt": ("tensorrt",),
                "openvino": ("cpu", "onnxruntime"),
                "onnxruntime": ("onnxruntime", "cpu"),
            }
            found = next((target for name in names[engine] if (target := manifest.target(name))), None)
            default = "fp16" if engine == "tensorrt" else "fp32"
            precision = default if found is None else found.precision
        return engine, precision

    def _make(self, plan: str, runtime: str, precision: str, out: Path) -> None:
        if runtime == "tensorrt":
            self._build(plan, precision, out)
        elif precision == "int8":
            self._quantize(plan, runtime, out)
        else:
            from gaitedge.export.graph import LETTER, Plan, build_graph
            from gaitedge.export.targets import serialize

            bundle, target = self._bundle, {"openvino": "cpu"}.get(runtime, runtime)
            graph = build_graph(
                bundle.config, weights := bundle.weights(), LETTER if plan == "naive" else Plan()
            )
            targets = {f"{target}-{precision}": Target(runtime, precision)}
            make_bundle(bundle.config, weights, {FOLD_GRAPH: serialize(graph)}, targets).save(out)

    def _quantize(self, plan: str, runtime: str, out: Path) -> None:
        """int8 of a CPU has the form in which the exporter writes it, and no other."""
        from gaitedge.calibration.applying import find_quantization
        from gaitedge.export.exporter import export

        if plan != "fused":
            raise InputError("the paper's letter has no int8 on a CPU; take fp32, or the plan fused")
        source = self._bundle.path
        found = find_quantization(source)
        export(source, out, "cpu" if runtime == "openvino" else "onnxruntime", "int8", quantization=found)

    def _build(self, plan: str, precision: str, out: Path) -> None:
        """An engine for this machine's GPU, of the shapes that the bundle's own takes."""
        from gaitedge.calibration.applying import find_quantization
        from gaitedge.export.build_options import BuildOptions
        from gaitedge.export.exporter import export

        if not _is_exported(precision):
            raise InputError(f"a TensorRT engine is exported in fp32, fp16, bf16 or int8, not in {precision}")
        source, manifest = self._bundle.path, self._bundle.manifest
        own = manifest.target("tensorrt", precision) or manifest.target("tensorrt")
        options = None if own is None or own.build is None else BuildOptions.from_json(own.build.options)
        export(
            source,
            out,
            "tensorrt",
            precision,
            plan=self._form(plan, precision),
            options=options,
            quantization=find_quantization(source) if precision == "int8" else None,
        )

    def _form(self, plan: str, precision: str) -> Plan:
        from gaitedge.export.packing import fits
        from gaitedge.export.plan import LETTER, Plan

        if plan == "plugin":
            whole = precision == "fp16" and fits(self._bundle.config)
            return Plan("network" if whole else "plugin", "plugin")
        return LETTER if plan == "naive" else Plan()


def _identity(path: Path) -> tuple[int, ...] | None:
    """Changes with whatever is written there; None where nothing is."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _is_exported(precision: str) -> TypeGuard[PrecisionName]:
    return precision in ("fp32", "fp16", "bf16", "int8")


def check_plan(name: str) -> None:
    """Raise InputError unless there is such a form."""
    if name not in get_args(PlanName):
        raise InputError(f"unknown plan {name!r}; there are: {', '.join(get_args(PlanName))}")
