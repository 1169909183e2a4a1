from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest

from gaitedge.files import atomic_write, naming, printable, sha256, user_cache


def test_a_file_appears_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with atomic_write(path) as file:
        file.write(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError(errno.ENOSPC, "No space left")])
def test_an_unfinished_file_leaves_the_old_one_and_nothing_else(error: BaseException, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def write_half() -> None:
        with atomic_write(path) as file:
            file.write(b"half")
            raise error

    with pytest.raises((ValueError, KeyboardInterrupt, OSError)):
        write_half()
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_the_umask_decides_who_may_read(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with atomic_write(tmp_path / "file") as file:
            file.write(b"")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_an_error_names_the_file_that_was_asked_for(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as missing, atomic_write(tmp_path / "no folder" / "file"):
        pass
    assert missing.value.filename == str(tmp_path / "no folder" / "file")
    with pytest.raises(OSError, match="full") as full, naming("somewhere"):
        raise OSError(errno.ENOSPC, "full")
    assert full.value.filename == "somewhere"
    hidden = tmp_path / ".hidden"
    with pytest.raises(OSError, match="full") as within, naming(tmp_path / "out", hidden):
        raise OSError(errno.ENOSPC, "full", str(hidden / "report.json"))
    assert within.value.filename == str(tmp_path / "out" / "report.json")


def test_a_name_that_is_too_long_is_named_as_it_was_given(tmp_path: Path) -> None:
    """The hidden name beside it is longer still; nothing is to be removed under it."""
    path = tmp_path / ("x" * 250)
    with pytest.raises(OSError, match="too long") as caught, atomic_write(path):
        pass
    assert caught.value.filename == str(path)


def test_a_read_only_file_system_names_the_file_that_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(OSError, match=r"Read-only file system: .*/name'"), atomic_write(tmp_path / "name"):
        pass


def test_a_device_or_a_pipe_is_not_replaced(tmp_path: Path) -> None:
    """Root could: and nobody on the machine had /dev/null any more."""
    os.mkfifo(tmp_path / "pipe")
    path = tmp_path / "pipe"
    with pytest.raises(OSError, match="a device or a pipe cannot be replaced") as caught, atomic_write(path):
        pass
    assert caught.value.filename == str(tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo()


def test_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache("timing") == tmp_path / "gaitedge" / "timing"
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")  # which its specification says to pass over
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert user_cache("timing") == tmp_path / "home" / ".cache" / "gaitedge" / "timing"

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)  # as in a container for a user whom it does not know
    assert user_cache("timing") is None


def test_what_cannot_be_printed_is_spelt_out() -> None:
    assert printable("walk é 步") == "walk é 步"
    assert printable("a\nb\udcff\x1b") == "a\\nb\\udcff\\x1b"


def test_sha256_of_the_empty_string() -> None:
    assert sha256(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.mark.skipif(sys.platform == "win32", reason="no umask")
def test_a_private_file_was_never_open_to_others(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with atomic_write(tmp_path / "key", private=True):
            (part,) = tmp_path.iterdir()
            assert part.stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(before)
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", [".", "..", "/", ""])
def test_what_can_only_be_a_folder_is_no_file(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(IsADirectoryError), atomic_write(Path(name)):
        pass
