"""What a bundle says of itself is read as it was written, or refused."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from bundles import BUILD, TARGETS

from gaitedge.config import GaitPartConfig
from gaitedge.errors import BundleError
from gaitedge.manifest import Manifest, Target

MANIFEST = Manifest(GaitPartConfig(), "0123", TARGETS, {})


def changed(**values: Any) -> bytes:
    return json.dumps({**json.loads(MANIFEST.to_json()), **values}).encode()


def test_what_is_written_is_read() -> None:
    assert Manifest.from_json(MANIFEST.to_json().encode()) == MANIFEST


def test_a_build_that_does_not_count_multiprocessors_is_read() -> None:
    targets = json.loads(MANIFEST.to_json())["targets"]
    del targets["tensorrt-fp16"]["build"]["multiprocessors"]
    assert Manifest.from_json(changed(targets=targets)) == MANIFEST


def test_the_first_format_is_read() -> None:
    """It had one target a runtime."""
    targets = {"cpu": {"engine": "openvino", "precision": "bf16", "agreement": None}}
    manifest = Manifest.from_json(changed(format=1, targets=targets))
    assert manifest.targets == {"cpu-bf16": Target("openvino", "bf16")}
    assert manifest.target("cpu") == manifest.target("cpu", "bf16") == Target("openvino", "bf16")
    assert manifest.target("cpu", "fp32") is None


def test_the_fastest_precision_is_taken_where_none_is_asked_for() -> None:
    more = {
        **TARGETS,
        "tensorrt-fp32": Target("tensorrt", "fp32"),
        "tensorrt-int8": Target("tensorrt", "int8"),
    }
    manifest = dataclasses.replace(MANIFEST, targets=more)
    assert manifest.target("tensorrt") == more["tensorrt-int8"]
    assert manifest.target("tensorrt", "fp32") == more["tensorrt-fp32"]
    assert manifest.target("portable") is None


@pytest.mark.parametrize(
    "change",
    [
        {"precision": "int4"},
        {"precision": ["fp16"]},
        {"build": {**dataclasses.asdict(BUILD), "compute_capability": [8]}},
        {"build": {**dataclasses.asdict(BUILD), "compute_capability": "new"}},
        {"build": {"member": "engines/tensorrt-fp16.plan"}},
        {"build": "built"},
        {"agreement": {"cosine": 1}},
        {"agreement": {"reference": "x", "relative_error": "small", "cosine": 1}},
        {"agreement": {"reference": "x", "relative_error": 1e999, "cosine": 1}},
        {"engine": "tpu"},
        {"graph": "\x1b[31mgraph"},
        {"build": {**dataclasses.asdict(BUILD), "versions": {}}},
        {"build": {**dataclasses.asdict(BUILD), "versions": ["10.3"]}},
        {"build": {**dataclasses.asdict(BUILD), "device": "a\nb"}},
        {"build": {**dataclasses.asdict(BUILD), "options": [1]}},
        {"build": {**dataclasses.asdict(BUILD), "seconds": "long"}},
        {"build": {**dataclasses.asdict(BUILD), "layers": {"fc": 16}}},
        {"build": {**dataclasses.asdict(BUILD), "multiprocessors": "all"}},
    ],
)
def test_a_target_that_is_none_is_refused(change: dict[str, object]) -> None:
    targets = json.loads(MANIFEST.to_json())["targets"]
    targets["tensorrt-fp16"].update(change)
    with pytest.raises(BundleError, match="is not a GaitEdge manifest") as caught:
        Manifest.from_json(changed(targets=targets))
    assert "\n" not in str(caught.value)
