"""A profile's file is what its schema says, comes back as it was, and is refused where it is another."""

from __future__ import annotations

import copy
import dataclasses
import functools
import importlib.resources
import json
import types
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import jsonschema
import pytest
from profiles import make_document

from gaitedge.errors import InputError
from gaitedge.profiling import document as contract
from gaitedge.profiling.document import Configuration, Document, Row
from gaitedge.profiling.schema import SCHEMA, VERSION, read_document, to_json, write_document

STATED: dict[str, Any] = json.loads(
    importlib.resources.files("gaitedge").joinpath("assets").joinpath("profile.schema.json").read_text()
)
TYPES = {int: "integer", float: "number", str: "string"}


def stated(kind: Any) -> dict[str, Any]:
    """What the schema has to say of a type."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        inner = stated(next(each for each in arguments if each is not type(None)))
        return {"anyOf": [inner, {"type": "null"}]} if "$ref" in inner else {"type": [inner["type"], "null"]}
    if origin is list:
        return {"type": "array", "items": stated(arguments[0])}
    if origin is dict:
        return {"type": "object"}
    return {"$ref": f"#/$defs/{kind.__name__}"} if dataclasses.is_dataclass(kind) else {"type": TYPES[kind]}


@pytest.mark.parametrize("name", ["Document", *sorted(STATED["$defs"])])
def test_the_schema_states_every_field_with_its_type_and_what_it_is(name: str) -> None:
    kind = getattr(contract, name)
    found = STATED if name == "Document" else STATED["$defs"][name]
    properties = dict(found["properties"])
    required = list(found["required"])
    if name == "Document":
        assert properties.pop("schema")["const"] == SCHEMA
        assert properties.pop("version")["const"] == VERSION
        assert required[:2] == ["schema", "version"]
        required = required[2:]
    fields, hints = dataclasses.fields(kind), get_type_hints(kind)
    assert list(properties) == [field.name for field in fields]
    for field in fields:
        assert properties[field.name].pop("description").endswith((".", ":"))
        assert properties[field.name] == stated(hints[field.name]), field.name
    lacking_a_default = [
        field.name
        for field in fields
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    assert required == lacking_a_default


def test_every_dataclass_of_a_profile_is_in_the_schema() -> None:
    named = {name for name in contract.__all__ if dataclasses.is_dataclass(getattr(contract, name))}
    assert named - {"Document"} == set(STATED["$defs"]) - {"Distribution"}


def test_a_profile_is_valid_and_comes_back_as_it_was(tmp_path: Path) -> None:
    document = make_document()
    write_document(document, tmp_path / "profile.json")
    jsonschema.validate(json.loads((tmp_path / "profile.json").read_text()), STATED)
    assert read_document(tmp_path / "profile.json") == document


def test_the_schema_refuses_what_reading_refuses() -> None:
    values = json.loads(to_json(make_document()))
    values["rows"][0]["configuration"]["batch"] = "1"
    with pytest.raises(jsonschema.ValidationError, match="is not of type 'integer'"):
        jsonschema.validate(values, STATED)


def test_a_field_of_a_later_release_is_passed_over_and_a_missing_one_has_its_default(tmp_path: Path) -> None:
    configuration = Configuration("openvino", "fp32", "exported", 1, 30, 2, 1)
    document = Document("now", "bench", "a.gait", "ab", {}, {}, [Row(configuration)])
    values = json.loads(to_json(document))
    values["mood"] = "good"
    del values["rows"][0]["warnings"], values["stages"]
    (tmp_path / "a.json").write_text(json.dumps(values))
    assert read_document(tmp_path / "a.json") == document


def broken(*path: str | int, value: object) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(to_json(make_document()))
    place: Any = values
    for step in path[:-1]:
        place = place[step]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return copy.deepcopy(values)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([], "is no profile: its schema is None"),
        ({"schema": "trtexec"}, "is no profile: its schema is 'trtexec'.*gaitedge bench BUNDLE --out"),
        (broken("version", value=2), "of schema version 2, and this GaitEdge reads 1"),
        (broken("version", value=True), "of schema version True"),
        (broken("rows", value={}), "is a damaged profile: rows is {}"),
        (broken("rows", 0, "configuration", "batch", value="1"), r"rows\[0\]\.configuration\.batch is '1'"),
        (broken("rows", 0, "samples_ms", 0, 0, value=None), r"rows\[0\]\.samples_ms\[0\]\[0\] is None"),
        (broken("bundle", value="a\nb"), "bundle is no text on one line"),
        (broken("rows", 0, "configuration", value=...), r"rows\[0\]\.configuration is missing"),
        (broken("rows", 0, "samples_ms", 1, 7, value=1e308), r"samples_ms\[1\]\[7\] is 1e\+308, no number"),
        (broken("rows", 0, "memory", "process_peak", value=10**400), "process_peak has 401 digits"),
        (broken("environment", value=functools.reduce(lambda deep, _: {"a": deep}, range(50), {})), "nested"),
        (broken("best", "throughput", value=99), r"best\.throughput is 99, and there are \d+ rows"),
        (broken("against", "speedup", "low", value=True), r"against\.speedup\.low is True"),
    ],
)
def test_what_is_no_profile_is_refused_in_one_line(tmp_path: Path, values: object, said: str) -> None:
    path = tmp_path / "odd.json"
    path.write_text(json.dumps(values))
    with pytest.raises(InputError, match=said) as refused:
        read_document(path)
    assert "\n" not in str(refused.value)
    assert "odd.json" in str(refused.value)


@pytest.mark.parametrize("text", ["", "{", "\xff\xfe", "[" * 100_000, '{"schema": "gaitedge.profile"'])
def test_what_is_no_json_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "odd.json").write_text(text, "latin-1")
    with pytest.raises(InputError, match=r"odd\.json is no JSON file"):
        read_document(tmp_path / "odd.json")


def test_no_figure_is_nan(tmp_path: Path) -> None:
    text = to_json(make_document()).replace('"load_ms": 101.5', '"load_ms": NaN')
    (tmp_path / "odd.json").write_text(text)
    with pytest.raises(InputError, match=r"rows\[0\]\.load_ms is nan"):
        read_document(tmp_path / "odd.json")
    rows = [dataclasses.replace(make_document().rows[0], load_ms=float("inf"))]
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_document(dataclasses.replace(make_document(), rows=rows), tmp_path / "new.json")
    assert not (tmp_path / "new.json").exists()
