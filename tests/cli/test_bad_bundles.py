"""A bundle, weights or an engine that cannot be used cost one clear line, exit 1, and nothing else."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from commands import Refused
from damage import a_folder, written


def flipped(path: Path, position: float) -> Path:
    """A copy with one bit turned over, at this share of its length."""
    data = bytearray(path.read_bytes())
    data[int(position * (len(data) - 1))] ^= 1
    return written(path, bytes(data))


def of_format(path: Path, number: int) -> Path:
    """The bundle as a GaitEdge of another format would have written it, its checksums in order."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["manifest.json"] = json.dumps({**json.loads(members["manifest.json"]), "format": number}).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
        archive.comment = hashlib.sha256(members["manifest.json"]).hexdigest().encode()
    return path


def gone(path: Path) -> Path:
    path.unlink()
    return path


BUNDLES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "a bit flipped at the start": (lambda path: flipped(path, 0), ""),
    "a bit flipped in the middle": (lambda path: flipped(path, 0.5), "damaged"),
    "a bit flipped at the end": (lambda path: flipped(path, 1), "damaged"),
    "half of it": (lambda path: written(path, path.read_bytes()[: path.stat().st_size // 2]), "damaged"),
    "another version": (lambda path: of_format(path, 3), "newer GaitEdge: format 3"),
    "no version": (lambda path: of_format(path, 0), "no GaitEdge ever wrote"),
    "an empty file": (lambda path: written(path, b""), "not a GaitEdge bundle"),
    "a text": (lambda path: written(path, b"a bundle"), "not a GaitEdge bundle"),
    "a folder": (a_folder, "is a folder"),
    "nothing": (gone, "no bundle at"),
}


@pytest.mark.parametrize("what", BUNDLES)
def test_a_bundle_that_cannot_be_used(
    what: str, bundle: Path, people: Path, store: Path, tmp_path: Path, refused: Refused
) -> None:
    damage, needle = BUNDLES[what]
    bad = damage(Path(shutil.copy(bundle, tmp_path / "bad.gait")))
    for command in (
        ["inspect", bad],
        ["inspect", bad, "--json"],
        ["export", bad, tmp_path / "new.gait"],
        ["export", bad, people],
        ["enroll", bad, people, store],
        ["enroll", bad, tmp_path / "new.db", store],
        ["identify", bad, people, store],
        ["bench", bad, "--seconds", "0.01"],
        ["eval", bad, store],
        ["eval", bad, store, "--json"],
    ):
        refused(command, "bad.gait", needle)


def test_a_bit_flipped_anywhere_in_a_bundle(bundle: Path, tmp_path: Path, refused: Refused) -> None:
    for position in np.linspace(0, 1, 40):
        bad = flipped(Path(shutil.copy(bundle, tmp_path / "bad.gait")), position)
        refused(["inspect", bad], "bad.gait")


@pytest.mark.parametrize("engine", ["tensorflow", ""])
def test_an_engine_that_nobody_knows(engine: str, bundle: Path, refused: Refused) -> None:
    refused(["bench", bundle, "--engine", engine], f"unknown engine {engine!r}", "auto, tensorrt, openvino")


def test_more_than_the_memory_holds(bundle: Path, refused: Refused) -> None:
    refused(["bench", bundle, "--batch", "100000000", "--frames", "1000"], "not enough memory", "at once")


# Weights


def test_weights_that_cannot_be_used(weights: Path, store: Path, tmp_path: Path, refused: Refused) -> None:
    whole = weights.read_bytes()
    nan = bytearray(whole)
    nan[-4:] = np.float32(np.nan).tobytes()
    bad = tmp_path / "bad.safetensors"
    for data, needle in (
        (b"", "not a readable safetensors file"),
        (b"weights", "not a readable safetensors file"),
        (whole[:-100], "not a readable safetensors file"),
        (whole.replace(b"frame.0", b"frame.9", 1), "missing frame.0"),
        (whole.replace(b"gaitpart", b"gaitnext", 1), "no GaitPart configuration"),
        (bytes(nan), "NaN or infinite values"),
    ):
        bad.write_bytes(data)
        refused(["export", bad, tmp_path / "new.gait"], "bad.safetensors", needle)
        refused(["eval", bad, store, "--json"], "bad.safetensors", needle)
    refused(["export", tmp_path / "none.safetensors", tmp_path / "new.gait"], "no weights file at")
    refused(["export", tmp_path, tmp_path / "new.gait"], "no weights file at")


def test_a_bundle_that_cannot_be_written(weights: Path, tmp_path: Path, refused: Refused) -> None:
    refused(["export", weights, tmp_path], "is a folder", "model.gait")
    refused(["export", weights, tmp_path / "none" / "new.gait"], "there is no folder")
    refused(
        ["export", weights, tmp_path / "new.gait", "--target", "portable", "--precision", "bf16"],
        "the target portable has fp32, not bf16",
    )
