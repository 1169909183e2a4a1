"""A profile as a JSON file.

Its schema has a version. A field that is added keeps it, for whoever reads ignores what it does not know
and takes the default of what is not there; any other change raises it.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from gaitedge.errors import InputError, one_line
from gaitedge.files import atomic_write
from gaitedge.profiling.document import Document
from gaitedge.profiling.plausible import check_plausible

__all__ = ["SCHEMA", "VERSION", "read_document", "to_json", "write_document"]

SCHEMA = "gaitedge.profile"
VERSION = 1

_LARGEST = 1e30  # of what is counted or measured here
_DEEPEST = 20


def write_document(document: Document, path: Path) -> None:
    """Write it as JSON, whole or not at all."""
    with atomic_write(path) as file:
        file.write(to_json(document).encode())


def to_json(document: Document) -> str:
    """The document as JSON text."""
    values = {"schema": SCHEMA, "version": VERSION, **dataclasses.asdict(document)}
    return json.dumps(values, indent=1, allow_nan=False) + "\n"


def read_document(path: Path) -> Document:
    """Read what write_document wrote. Raises InputError on another schema, or where it is damaged."""
    try:
        values = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no JSON file: {one_line(error)}") from None
    if not isinstance(values, dict) or values.get("schema") != SCHEMA:
        found = values.get("schema") if isinstance(values, dict) else None
        raise InputError(
            f"{path} is no profile: its schema is {found!r:.80}, not {SCHEMA!r}; "
            "make one: gaitedge bench BUNDLE --out FILE.json"
        )
    version = values.get("version")
    if type(version) is not int or version != VERSION:
        raise InputError(
            f"{path} is a profile of schema version {version!r:.80}, and this GaitEdge reads {VERSION}; "
            "make it again with this one"
        )
    try:
        made: Document = _made(Document, values, "")
        check_plausible(made)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{path} is a damaged profile: {one_line(error)}") from None
    return made


def _made(kind: Any, value: Any, where: str) -> Any:
    """A value of a type of this module, from JSON. Raises ValueError where it is something else."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin in (Union, types.UnionType):
        (inner,) = (each for each in arguments if each is not type(None))
        return None if value is None else _made(inner, value, where)
    if origin is list and isinstance(value, list):
        return [_made(arguments[0], each, f"{where}[{number}]") for number, each in enumerate(value)]
    if origin is dict and isinstance(value, dict):
        if _is_deep(value):
            raise ValueError(f"{where} is nested more than {_DEEPEST} times")
        return value
    if dataclasses.is_dataclass(kind) and isinstance(value, Mapping):
        return _object(kind, value, where)
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        if not math.isfinite(value) or abs(value) > _LARGEST:
            raise ValueError(f"{where} is {value:.6g}, no number that is measured")
        return float(value)
    if kind in (int, str) and type(value) is kind:
        if kind is str and not value.isprintable():  # it is shown on terminals
            raise ValueError(f"{where} is no text on one line")
        if kind is int and abs(value) > _LARGEST:
            raise ValueError(f"{where} has {len(str(value))} digits: no number that is measured")
        return value
    raise ValueError(f"{where or 'it'} is {value!r:.60}")


def _is_deep(value: dict[str, Any]) -> bool:
    """Whether what follows it from inside to inside would come to the end of Python's stack."""
    level: list[Any] = [value]
    for _ in range(_DEEPEST):
        children = (each.values() if isinstance(each, dict) else each for each in level)
        level = [inner for some in children for inner in some if isinstance(inner, (dict, list))]
    return bool(level)


def _object(kind: Any, values: Mapping[str, Any], where: str) -> Any:
    hints, found = get_type_hints(kind), {}
    for each in dataclasses.fields(kind):
        name = f"{where}.{each.name}".lstrip(".")
        if each.name in values:
            found[each.name] = _made(hints[each.name], values[each.name], name)
        elif each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING:
            raise ValueError(f"{name} is missing")
    return kind(**found)
