"""Ways to spoil a file."""

from __future__ import annotations

from pathlib import Path


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def a_folder(path: Path) -> Path:
    path.unlink()
    path.mkdir()
    return path


def replace_in(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def cut(path: Path, length: int) -> None:
    with path.open("r+b") as file:
        file.truncate(length)
