from __future__ import annotations

from pathlib import Path

import pytest

from gaitedge.machine.jetson import Jetson, find_jetson

MODEL = "NVIDIA Jetson Orin NX Engineering Reference Developer Kit"


def make_root(root: Path, release: str | None, model: str | None = MODEL) -> Path:
    if release is not None:
        (root / "etc").mkdir()
        (root / "etc/nv_tegra_release").write_text(release)
    if model is not None:
        (root / "proc/device-tree").mkdir(parents=True)
        (root / "proc/device-tree/model").write_bytes(model.encode() + b"\0")
    return root


def line(major: str, revision: str) -> str:
    return (
        f"# R{major} (release), REVISION: {revision}, GCID: 38968081, BOARD: generic, EABI: aarch64, "
        "DATE: Wed Jan  8 01:49:37 UTC 2025\n# KERNEL_VARIANT: oot\n"
    )


@pytest.mark.parametrize(
    ("major", "revision", "jetpack", "tensorrt", "supported"),
    [
        ("32", "7.1", "4", "8.2 or older", False),
        ("35", "4.1", "5.1.2", "8.5.2", False),
        ("35", "9.9", "5", "8.4 or 8.5", False),
        ("36", "3.0", "6.0", "8.6.2", True),
        ("36", "4.0", "6.1", "10.3", True),
        ("36", "4.3", "6.2", "10.3", True),
        ("36", "4.7", "6.1 to 6.2.1", "10.3", True),
        ("36", "5.0", "6.2.2", "10.3", True),
        ("38", "2.0", "7.0", "10.13", True),
        ("39", "2.0", "7.2", "10.16", True),
        ("41", "1.0", None, None, True),
    ],
)
def test_release(
    tmp_path: Path, major: str, revision: str, jetpack: str | None, tensorrt: str | None, supported: bool
) -> None:
    found = find_jetson(make_root(tmp_path, line(major, revision)))
    assert found == Jetson(MODEL, f"{major}.{revision}", jetpack, tensorrt, supported)


def test_a_container_without_the_release_file(tmp_path: Path) -> None:
    assert find_jetson(make_root(tmp_path, None)) == Jetson(MODEL, None, None, None, supported=True)


def test_a_release_file_without_a_release(tmp_path: Path) -> None:
    found = find_jetson(make_root(tmp_path, "nothing of use\n", model=None))
    assert found == Jetson("Jetson of an unknown model", None, None, None, supported=True)


@pytest.mark.parametrize("model", [None, "Raspberry Pi 5 Model B Rev 1.0", ""])
def test_no_jetson(tmp_path: Path, model: str | None) -> None:
    assert find_jetson(make_root(tmp_path, None, model)) is None
