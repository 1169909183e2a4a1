from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import configs, random_weights
from safetensors.numpy import save

from gaitedge.config import GaitPartConfig
from gaitedge.errors import WeightsError
from gaitedge.weights import fingerprint, load_weights, save_weights, serialize_weights, shipped_weights

SMALL = GaitPartConfig(channels=(4, 4, 8), embedding_dim=4)


def test_weights_come_back_as_they_went(tmp_path: Path) -> None:
    weights = random_weights(SMALL, 0)
    save_weights(tmp_path / "small.safetensors", SMALL, weights)
    config, loaded = load_weights(tmp_path / "small.safetensors")
    assert config == SMALL
    assert all(np.array_equal(loaded[name], weights[name]) for name in weights)
    assert fingerprint(config, loaded) == fingerprint(SMALL, weights)


@given(configs(), st.integers(0, 2**16))
def test_a_fingerprint_changes_with_any_weight_and_with_the_configuration(
    config: GaitPartConfig, seed: int
) -> None:
    weights = random_weights(config, seed)
    before = fingerprint(config, weights)
    name = sorted(weights)[seed % len(weights)]
    changed = {key: array.copy() for key, array in weights.items()}
    changed[name].flat[-1] += 1
    assert fingerprint(config, changed) != before
    assert fingerprint(config, weights) == before
    other = "mean" if config.temporal_pooling == "max" else "max"
    values = {field: getattr(config, field) for field in config.__dataclass_fields__}
    assert fingerprint(GaitPartConfig(**{**values, "temporal_pooling": other}), weights) != before


def test_the_shipped_weights_are_the_paper_s_network_and_small_enough() -> None:
    config, weights = load_weights(shipped_weights())
    assert config == GaitPartConfig()
    assert sum(array.size for array in weights.values()) == 1_466_144
    assert shipped_weights().stat().st_size <= 6_000_000
    card = shipped_weights().with_suffix(".md").read_text()
    assert fingerprint(config, weights)[:12] in card


def damaged(kind: str) -> bytes:
    weights = random_weights(SMALL, 0)
    whole = serialize_weights(SMALL, weights)
    settings = {"gaitpart": SMALL.to_json()}
    return {
        "empty": b"",
        "truncated": whole[:-10],
        "no safetensors": b"PK\x03\x04" + whole,
        "no configuration": save(weights),
        "impossible configuration": save(weights, metadata={"gaitpart": '{"parts": 99}'}),
        "unknown choice": save(weights, metadata={"gaitpart": '{"heads": 8}'}),
        "a tensor missing": save({k: v for k, v in weights.items() if k != "fc"}, metadata=settings),
        "a tensor too many": save(weights | {"bias": np.zeros(1, np.float32)}, metadata=settings),
        "another shape": save(weights | {"fc": np.zeros((16, 8, 5), np.float32)}, metadata=settings),
        "another type": save(weights | {"fc": weights["fc"].astype(np.float16)}, metadata=settings),
        "NaN": save(weights | {"fc": np.full_like(weights["fc"], np.nan)}, metadata=settings),
    }[kind]


UNREADABLE = {"empty", "truncated", "no safetensors", "impossible configuration", "unknown choice"}


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("empty", "not a readable safetensors file"),
        ("truncated", "not a readable safetensors file"),
        ("no safetensors", "not a readable safetensors file"),
        ("no configuration", "no GaitPart configuration"),
        ("impossible configuration", "16 rows cannot be pooled into 99 parts"),
        ("unknown choice", "not a GaitPart configuration"),
        ("a tensor missing", "missing fc"),
        ("a tensor too many", "unknown bias"),
        ("another shape", r"fc is float32\[16, 8, 5\], must be float32\[16, 8, 4\]"),
        ("another type", r"fc is float16\[16, 8, 4\]"),
        ("NaN", "fc holds NaN"),
    ],
)
def test_unusable_files_are_refused(kind: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(damaged(kind))
    with pytest.raises(WeightsError, match=message) as refused:
        load_weights(path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)
    if kind not in UNREADABLE:
        assert "gaitedge train" in str(refused.value)  # the way out


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no weights file at .*nothing\.safetensors"):
        load_weights(tmp_path / "nothing.safetensors")


def test_a_graph_is_named_as_one(tmp_path: Path) -> None:
    (tmp_path / "gait.onnx").write_bytes(b"\x08\x08")
    with pytest.raises(WeightsError, match=r"gait\.onnx is a graph; give the weights or the bundle"):
        load_weights(tmp_path / "gait.onnx")


def test_weights_that_are_not_finite_are_not_written(tmp_path: Path) -> None:
    path = tmp_path / "small.safetensors"
    save_weights(path, SMALL, random_weights(SMALL, 0))
    before = path.read_bytes()
    with pytest.raises(WeightsError, match="diverged"):
        save_weights(path, SMALL, random_weights(SMALL, 1) | {"fc": np.full((16, 8, 4), np.inf, np.float32)})
    assert path.read_bytes() == before
