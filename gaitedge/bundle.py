"""The .gait bundle: one file that holds a model and everything a device needs to run it.

A ZIP archive whose members are stored, not compressed:

    manifest.json             what the bundle is, and the SHA-256 and size of every other member
    weights.safetensors       the float32 weights, so that it can be exported again for other targets
    graphs/fold.onnx          the portable graph that every CPU runs, and that others are measured by
    graphs/frames.onnx        the same up to the part features, for frames that come one by one
    graphs/tensorrt-fp16.onnx what a TensorRT engine was built from; the like for other precisions
    engines/tensorrt-fp16.plan  the engine itself, for one kind of device and version
    engines/cuda-fp16.safetensors  weights as the CUDA kernels take them, for every GPU

The archive's comment is the SHA-256 of manifest.json, so that a flipped byte anywhere is found: the
comment vouches for the manifest, the manifest for the members, and the fingerprint for the weights.
That guards against damage and mix-ups, not against somebody who rewrites the whole file.
"""

from __future__ import annotations

import dataclasses
import datetime
import io
import re
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gaitedge.config import GaitPartConfig
from gaitedge.errors import BundleError, WeightsError, one_line
from gaitedge.files import atomic_write, sha256
from gaitedge.manifest import Manifest, Member, Target
from gaitedge.weights import Weights, check_weights, fingerprint, serialize_weights

__all__ = [
    "FOLD_GRAPH",
    "FRAMES_GRAPH",
    "Bundle",
    "check_destination",
    "make_bundle",
    "write_bundle",
]

MANIFEST = "manifest.json"
WEIGHTS = "weights.safetensors"
FOLD_GRAPH = "graphs/fold.onnx"
FRAMES_GRAPH = "graphs/frames.onnx"

_LARGEST = 1 << 30  # bytes; the largest GaitPart that has been published takes 40 MB
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
_PARSING = (  # what zipfile raises, depending on which byte of an archive is wrong
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    EOFError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    ValueError,
    struct.error,
)


@dataclass(frozen=True)
class Bundle:
    """A bundle that was read and found whole; get one from Bundle.open."""

    path: Path
    manifest: Manifest
    _members: dict[str, bytes] = field(repr=False)

    @property
    def config(self) -> GaitPartConfig:
        """The network's configuration."""
        return self.manifest.config

    @property
    def fingerprint(self) -> str:
        """The model's identity: galleries are bound to it."""
        return self.manifest.fingerprint

    @classmethod
    def open(cls, path: Path) -> Bundle:
        """Read a bundle and check every byte that matters.

        Raises BundleError where the file is missing, damaged, no bundle, or written by a newer GaitEdge.
        """
        path = Path(path)
        if path.is_dir():
            raise BundleError(f"{path} is a folder, not a .gait bundle")
        if not path.is_file():
            raise BundleError(f"no bundle at {path}")
        if path.stat().st_size > _LARGEST:
            raise BundleError(f"{path} is larger than {_LARGEST >> 20} MiB: no GaitEdge bundle")
        try:
            manifest, members = _unpack(path.read_bytes())
            _check_model(manifest, members[WEIGHTS])
        except BundleError as error:
            raise BundleError(f"{path}: {error}") from None
        return cls(path, manifest, members)

    def read(self, member: str) -> bytes:
        """The bytes of a member, as checked when the bundle was opened. Raises BundleError if absent."""
        if member not in self._members:
            raise BundleError(f"{self.path} holds no {member}; export it again")
        return self._members[member]

    def weights(self) -> Weights:
        """The float32 weights."""
        return _weights(self._members[WEIGHTS])

    def save(self, path: Path) -> Bundle:
        """Write the bundle to a file, whole or not at all; returns the bundle that lies there.

        Raises BundleError where `path` cannot be a file.
        """
        path = check_destination(path)
        text = self.manifest.to_json().encode()
        with atomic_write(path) as file:
            file.write(_pack({MANIFEST: text, **self._members}, comment=sha256(text).encode()))
        return dataclasses.replace(self, path=path)


def make_bundle(
    config: GaitPartConfig, weights: Weights, parts: Mapping[str, bytes], targets: Mapping[str, Target]
) -> Bundle:
    """Put a bundle together in memory, as an engine takes it; save() writes it.

    parts: graphs and engines by member name, as in "graphs/fold.onnx". Raises WeightsError where the
    weights are not those of `config`.
    """
    # The same bytes as a weights file: whoever unzips the bundle can train on from it.
    members = {WEIGHTS: serialize_weights(config, weights), **parts}
    manifest = Manifest(
        config=config,
        fingerprint=fingerprint(config, weights),
        targets=dict(targets),
        members={name: Member(sha256(data), len(data)) for name, data in members.items()},
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    )
    return Bundle(Path("unsaved bundle"), manifest, members)


def write_bundle(
    path: Path,
    config: GaitPartConfig,
    weights: Weights,
    parts: Mapping[str, bytes],
    targets: Mapping[str, Target],
) -> Bundle:
    """Write a bundle, whole or not at all; make_bundle and Bundle.save in one."""
    return make_bundle(config, weights, parts, targets).save(path)


def check_destination(path: Path) -> Path:
    """Raise BundleError unless a bundle can be written at `path`."""
    path = Path(path)
    if path.is_dir():
        raise BundleError(f"{path} is a folder; name the bundle to write, as in {path / 'model.gait'}")
    if path.exists() and not path.is_file():
        raise BundleError(f"{path} is a device or a pipe; name the bundle to write, as in model.gait")
    if path.suffix == ".safetensors":  # the two names in the wrong order would cost a training
        raise BundleError(f"{path} is a name for weights; name the bundle to write, as in {path.stem}.gait")
    if not path.parent.is_dir():
        raise BundleError(f"cannot write {path}: there is no folder {path.parent}")
    return path


def _pack(members: Mapping[str, bytes], comment: bytes) -> memoryview:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(name)  # of 1980: the manifest says when, and equal input gives equal bytes
            info.external_attr = 0o644 << 16
            archive.writestr(info, data)
        archive.comment = comment
    return buffer.getbuffer()


def _unpack(data: bytes) -> tuple[Manifest, dict[str, bytes]]:
    """Take an archive apart, trusting nothing in it. Raises BundleError."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = {info.filename: info for info in archive.infolist()}
            if MANIFEST not in infos:
                raise BundleError(f"it has no {MANIFEST}: not a GaitEdge bundle")
            if not data.startswith(b"PK\x03\x04") or not data.endswith(archive.comment):
                raise BundleError("there is something before or after the archive; it was tampered with")
            if len(infos) != len(archive.infolist()):
                raise BundleError("it holds two members of one name; it was tampered with")
            for name, info in infos.items():
                if not _NAME.fullmatch(name):
                    raise BundleError(f"it holds a member named {name!r}; it was tampered with")
                if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
                    raise BundleError(f"{name} is compressed; a bundle's members are not: export it again")
            # Stored members cannot be more than the file, unless they overlap.
            if sum(info.file_size for info in infos.values()) > len(data):
                raise BundleError("its members are larger than the file; it was tampered with")
            text = archive.read(MANIFEST)
            if sha256(text).encode() != archive.comment:
                raise BundleError(f"{MANIFEST} is damaged: its SHA-256 is not the one in the file's comment")
            manifest = Manifest.from_json(text)
            expected = {*manifest.members, MANIFEST}
            if expected != infos.keys():
                odd = ", ".join(sorted(expected ^ infos.keys()))
                raise BundleError(f"its members are not those that its manifest lists: {odd}")
            if WEIGHTS not in expected:
                raise BundleError(f"it holds no {WEIGHTS}")
            members = {name: archive.read(name) for name in manifest.members}
    except _PARSING as error:
        raise BundleError(f"damaged, or not a GaitEdge bundle: {one_line(error)}") from None
    for name, entry in manifest.members.items():
        if len(members[name]) != entry.size or sha256(members[name]) != entry.sha256:
            raise BundleError(f"{name} is damaged: its SHA-256 or size is not the one in the manifest")
    return manifest, members


def _check_model(manifest: Manifest, data: bytes) -> None:
    weights = _weights(data)
    try:
        check_weights(manifest.config, weights, WEIGHTS)
    except WeightsError as error:
        raise BundleError(str(error)) from None
    if fingerprint(manifest.config, weights) != manifest.fingerprint:
        raise BundleError(f"{WEIGHTS} is another model than the manifest's fingerprint says")


def _weights(data: bytes) -> Weights:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return dict(load(data))
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{WEIGHTS} is not readable: {one_line(error)}") from None
