"""Can a report be written there? Asked before the work that it is about."""

from __future__ import annotations

from pathlib import Path

from gaitedge.errors import InputError
from gaitedge.files import naming, unfinished

__all__ = ["check_destination"]


def check_destination(path: Path, suffix: str) -> Path:
    """Raise InputError unless `path` can be a report, whose name must end with `suffix`.

    Raises OSError where no file of that name can be made: the name is too long, the disk read-only.
    """
    path = Path(path)
    if path.suffix.lower() != suffix:
        raise InputError(f"{path} is not named as a {suffix} file; name it {path.stem or 'report'}{suffix}")
    if path.is_dir():
        raise InputError(f"{path} is a folder; name the file to write, as in {path / f'report{suffix}'}")
    if not path.parent.is_dir():
        raise InputError(f"cannot write {path}: there is no folder {path.parent}")
    with unfinished(path) as part, naming(path, part):
        part.open("xb").close()
    return path
