from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from tensorrt_fake import Recorded, fake_tensorrt

from gaitedge.export.timing_cache import default_cache, keep_cache, use_cache
from gaitedge.machine.cuda_driver import CudaDevice
from gaitedge.machine.tensorrt import log

ORIN = CudaDevice("Orin (nvgpu)", (8, 7), 8 << 30, 16)
GOOD = b"timings of 10.3.0"


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Recorded]:
    module, recorded = fake_tensorrt("10.3.0")
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    log.cache_clear()
    return module.IBuilderConfig(log().logger), recorded


def test_one_for_each_gpu_and_version(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = default_cache(ORIN, "10.3.0")
    assert path == tmp_path / "gaitedge/timing/orin-nvgpu-sm87-tensorrt-10.3.0.cache"
    others = {
        default_cache(ORIN, "10.3.1"),
        default_cache(CudaDevice("Orin (nvgpu)", (8, 9), 1, 1), "10.3.0"),
        default_cache(CudaDevice("Thor", (8, 7), 1, 1), "10.3.0"),
    }
    assert len(others | {path}) == 4


@pytest.mark.parametrize("setting", [None, "", "relative/folder"])
def test_in_the_users_cache_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, setting: str | None
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    if setting is None:
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", setting)
    assert default_cache(ORIN, "8.6.1").parent == tmp_path / ".cache/gaitedge/timing"


@pytest.mark.parametrize("name", ["../../etc/passwd", "GPU/0", "", "Überkarte"])
def test_a_name_is_no_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = default_cache(CudaDevice(name, (9, 0), 1, 1), "11.4.0.106")
    assert path.parent == tmp_path / "gaitedge/timing"
    assert path.name.isascii()


def test_it_is_used(config: tuple[Any, Recorded], tmp_path: Path) -> None:
    (tmp_path / "cache").write_bytes(GOOD)
    use_cache(config[0], tmp_path / "cache")
    assert config[1].cache_given == GOOD


@pytest.mark.parametrize(
    "data", [b"", b"damaged \x00\xff", b"timings of 8.6.1"], ids=["empty", "damaged", "foreign"]
)
def test_what_tensorrt_does_not_take_is_left_out(
    config: tuple[Any, Recorded], tmp_path: Path, data: bytes
) -> None:
    (tmp_path / "cache").write_bytes(data)
    use_cache(config[0], tmp_path / "cache")
    assert config[1].cache_given == b""


def test_none_is_there(config: tuple[Any, Recorded], tmp_path: Path) -> None:
    use_cache(config[0], tmp_path / "nothing" / "cache")
    assert config[1].cache_given == b""
    (tmp_path / "folder").mkdir()
    use_cache(config[0], tmp_path / "folder")
    assert config[1].cache_given == b""


def test_it_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "cache"
    keep_cache(b"first", path)
    keep_cache(GOOD, path)
    assert path.read_bytes() == GOOD
    assert [each.name for each in path.parent.iterdir()] == ["cache"]
