"""What a bundle says of itself: the model, the targets it was exported for, and how engines were built."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from dataclasses import dataclass, field
from typing import Any

from gaitedge import __version__
from gaitedge.config import GaitPartConfig
from gaitedge.errors import BundleError, InputError, one_line

__all__ = ["PRECISIONS", "Agreement", "Build", "Manifest", "Member", "Packed", "Target"]

FORMAT = 2  # 1 had one target a runtime, and no engines
ENGINES = ("tensorrt", "cuda", "openvino", "onnxruntime", "any")
"""What a target may name; "any" is a portable one's."""
PRECISIONS = ("int8", "fp8", "fp16", "bf16", "fp32")
"""The fastest first: what is taken where a bundle has one target in several."""


@dataclass(frozen=True)
class Agreement:
    """How far an engine's embeddings are from those of the paper's letter, as measured at export."""

    reference: str
    """What ran the letter, as in "ONNX Runtime 1.31.1"."""
    relative_error: float
    """Largest absolute difference over the largest magnitude of the reference."""
    cosine: float
    """Smallest cosine of any part's embedding with its reference."""


@dataclass(frozen=True)
class Build:
    """How an engine that lies in the bundle was built, and for what."""

    member: str
    """The engine, as in "engines/tensorrt-fp16.plan"."""
    graph: str
    """What it was built from, as in "graphs/tensorrt-fp16.onnx"."""
    device: str
    """The GPU's name, as its driver gives it."""
    compute_capability: tuple[int, int]
    versions: dict[str, str]
    """"tensorrt", "cuda" (the newest that the driver runs) and "platform", as in "10.3.0", "12.6" and
    "linux-aarch64"."""
    options: dict[str, Any]
    """The options of the build, as gaitedge.export.tensorrt.BuildOptions.to_json gives them: a rebuild takes
    them again, and the engine reads its limits off them."""
    seconds: float
    layers: dict[str, str] = field(default_factory=dict)
    """Layer of the engine -> the precision that TensorRT chose, from its inspector."""
    fell_back: tuple[str, ...] = ()
    """Layers that run in a higher precision than the graph asks for."""
    multiprocessors: int = 0
    """Of the GPU: drivers give every Jetson of a generation one name. 0 where it is not known."""


@dataclass(frozen=True)
class Packed:
    """Weights that lie in the bundle as the CUDA kernels take them, and where they were checked. They are
    bound to no GPU."""

    member: str
    """As in "engines/cuda-fp16.safetensors"."""
    device: str
    """The GPU on which the engine was found to agree, as its driver names it."""
    compute_capability: tuple[int, int]
    versions: dict[str, str]
    """Of that machine: "cuda" (the newest that the driver runs), "kernels" (the SHA-256 of the sources that
    their library was built from) and "platform"."""


@dataclass(frozen=True)
class Target:
    """What a bundle was exported for: the engine that was checked, and its precision."""

    engine: str
    """An engine's name, or "any" in a portable bundle."""
    precision: str
    agreement: Agreement | None = None
    """None where no engine was there to measure it."""
    build: Build | None = None
    """None where the engine is compiled when the bundle is loaded."""
    graph: str | None = None
    """The member that such an engine compiles; None for "graphs/fold.onnx"."""
    packed: Packed | None = None
    """What the CUDA engine runs from; None for every other."""

    @property
    def members(self) -> tuple[str, ...]:
        """What the target needs in the bundle beside what every bundle has."""
        built = () if self.build is None else (self.build.graph, self.build.member)
        graph = () if self.graph is None else (self.graph,)
        return (*built, *graph, *(() if self.packed is None else (self.packed.member,)))


@dataclass(frozen=True)
class Member:
    """One file inside a bundle."""

    sha256: str
    size: int


@dataclass(frozen=True)
class Manifest:
    """What a bundle says of itself."""

    config: GaitPartConfig
    fingerprint: str
    """Of configuration and weights, as gaitedge.weights.fingerprint gives it."""
    targets: dict[str, Target]
    """By target and precision, as in "cpu-bf16", "onnxruntime-fp32", "tensorrt-fp16", "portable-fp32"."""
    members: dict[str, Member]
    """Every member but the manifest itself."""
    written_by: str = f"GaitEdge {__version__}"
    created: str = ""
    """UTC, ISO 8601."""

    def target(self, name: str, precision: str | None = None) -> Target | None:
        """The target of this name, as in "cpu": in a precision, or in the fastest that there is."""
        for choice in [precision] if precision else PRECISIONS:
            if (found := self.targets.get(f"{name}-{choice}")) is not None:
                return found
        return None

    def to_json(self) -> str:
        """The manifest as JSON text, keys sorted."""
        values = dataclasses.asdict(self)
        for target in values["targets"].values():
            if target["packed"] is None:  # so that a GaitEdge which knows no such thing reads the bundle
                del target["packed"]
        return json.dumps({"format": FORMAT, **values}, indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: bytes) -> Manifest:
        """Read what to_json wrote. Raises BundleError on another format or anything malformed."""
        try:
            values: Any = json.loads(text)
            version = values.pop("format")
            if type(version) is not int or version < 1:
                raise BundleError(f"its format is {version!r}, which no GaitEdge ever wrote")
            if version > FORMAT:
                raise BundleError(
                    f"written by a newer GaitEdge: format {version}, this one reads {FORMAT}; update GaitEdge"
                )
            config = GaitPartConfig.from_json(json.dumps(values.pop("config")))
            members = {name: Member(**entry) for name, entry in values.pop("members").items()}
            targets = {name: _target(**entry) for name, entry in values.pop("targets").items()}
            if version == 1:
                targets = {f"{name}-{target.precision}": target for name, target in targets.items()}
            manifest = cls(config=config, members=members, targets=targets, **values)
            _check_text(*targets, manifest.fingerprint, manifest.written_by, manifest.created)
        except (
            KeyError,
            TypeError,
            ValueError,
            AttributeError,
            OverflowError,
            RecursionError,
            InputError,
        ) as error:
            if isinstance(error, BundleError):
                raise
            raise BundleError(f"manifest.json is not a GaitEdge manifest: {one_line(error)}") from None
        return manifest


def _target(
    engine: str,
    precision: str,
    agreement: dict[str, Any] | None,
    build: dict[str, Any] | None = None,
    graph: str | None = None,
    packed: dict[str, Any] | None = None,
) -> Target:
    if precision not in PRECISIONS:
        raise InputError(f"the unknown precision {precision!r}")
    if engine not in ENGINES:
        raise InputError(f"the unknown engine {engine!r}")
    if graph is not None:
        _check_text(graph)
    return Target(
        engine,
        precision,
        None if agreement is None else _agreement(**agreement),
        None if build is None else _build(**build),
        graph,
        None if packed is None else _packed(**packed),
    )


def _packed(compute_capability: list[int], **values: Any) -> Packed:
    major, minor = compute_capability
    packed = Packed(compute_capability=(int(major), int(minor)), **values)
    _check_text(packed.member, packed.device, *packed.versions, *packed.versions.values())
    return packed


def _build(compute_capability: list[int], fell_back: list[str], **values: Any) -> Build:
    major, minor = compute_capability
    build = Build(compute_capability=(int(major), int(minor)), fell_back=tuple(fell_back), **values)
    _check_text(build.member, build.graph, build.device, *build.versions, *build.versions.values())
    layers = (*build.fell_back, *build.layers, *build.layers.values())  # by names of TensorRT's choice
    if not all(isinstance(each, str) for each in layers):
        raise InputError("layers that are no texts")
    if not re.match(r"[0-9]+\.[0-9]+", build.versions.get("tensorrt", "")):
        raise InputError(f"an engine of TensorRT {build.versions.get('tensorrt')!r}")
    if not isinstance(build.options, dict):
        raise InputError(f"the options {build.options!r}")
    _check_number(build.seconds, build.multiprocessors)
    return build


def _agreement(**values: Any) -> Agreement:
    agreement = Agreement(**values)
    _check_text(agreement.reference)
    _check_number(agreement.relative_error, agreement.cosine)
    return agreement


def _check_text(*values: object) -> None:
    """Every text is shown on a terminal: none may break its line, or give it orders."""
    for value in values:
        if not isinstance(value, str) or not value.isprintable():
            raise InputError(f"{value!r:.80} where a text on one line belongs")


def _check_number(*values: object) -> None:
    for value in values:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise InputError(f"{value!r:.80} where a number belongs")
