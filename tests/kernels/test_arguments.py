"""gaitedge/cuda.py says what kernels/include/gaitedge/arguments.h does: a compiler reads the header."""

from __future__ import annotations

import ctypes
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from host_build import KERNELS, run

from gaitedge import cuda

HEADER = KERNELS / "include" / "gaitedge" / "arguments.h"
STRUCTS: dict[str, Any] = {
    name: kind
    for name, kind in vars(cuda).items()
    if isinstance(kind, type) and issubclass(kind, ctypes.Structure)
}
CONSTANTS = {  # in C++: in Python
    "kFloat32": "FLOAT32",
    "kFloat16": "FLOAT16",
    "kInt8": "INT8",
    "kUint8": "UINT8",
    "kChannelsFirst": "CHANNELS_FIRST",
    "kChannelsLast": "CHANNELS_LAST",
    "kChannels32": "CHANNELS32",
    "kMaximum": "MAXIMUM",
    "kMean": "MEAN",
    "kUnsupported": "UNSUPPORTED",
}
KINDS = {ctypes.c_void_p: "pointer", ctypes.c_int32: "int32", ctypes.c_float: "float"}

PROGRAM = """
#include <cstddef>
#include <cstdio>
#include <type_traits>
#include "gaitedge/arguments.h"

template <class T>
const char* kind() {
  if (std::is_pointer<std::remove_all_extents_t<T>>::value) return "pointer";
  if (std::is_same<T, int32_t>::value) return "int32";
  if (std::is_same<T, float>::value) return "float";
  return std::is_class<T>::value ? "struct" : "unknown";
}

int main() {
  std::printf("{");
%s
  std::printf("\\"constants\\": {%s}}\\n");
}
"""


def statements(name: str, fields: list[str]) -> str:
    """C++ that prints a struct's size and its fields; it compiles only if these are all of them."""
    words = [field.rstrip("_") for field in fields]
    bound = ", ".join(f"f{number}" for number in range(len(fields)))
    lines = [
        f'  {{ using S = gaitedge::{name}; S s{{}}; auto& [{bound}] = s; std::printf("\\"{name}\\": [");',
        *(
            f'    (void)f{number}; std::printf("[%zu, %zu, \\"%s\\"], ", '
            f"offsetof(S, {word}), sizeof s.{word}, kind<decltype(S::{word})>());"
            for number, word in enumerate(words)
        ),
        '    std::printf("%zu], ", sizeof(S)); }',
    ]
    return "\n".join(lines)


def program(structs: dict[str, list[str]]) -> str:
    body = "\n".join(statements(name, fields) for name, fields in structs.items())
    constants = ", ".join(f'\\"{word}\\": %d' for word in CONSTANTS)
    values = ", ".join(f"int(gaitedge::{word})" for word in CONSTANTS)
    text = PROGRAM % (body, constants)
    return text.replace('}}\\n");', f'}}}}\\n", {values});')


def compile_and_ask(text: str, folder: Path) -> dict[str, Any]:
    if shutil.which("g++") is None:
        pytest.skip("there is no g++ to read the header")
    source, made = folder / "layout.cpp", folder / "layout"
    source.write_text(text)
    run(["g++", "-std=c++17", f"-I{KERNELS / 'include'}", str(source), "-o", str(made)])
    printed = subprocess.run([str(made)], capture_output=True, text=True, check=True).stdout
    answers: dict[str, Any] = json.loads(printed)
    return answers


def fields_of(kind: Any) -> list[str]:
    return [name for name, _ in kind._fields_]


def test_every_field_lies_where_the_header_has_it(tmp_path: Path) -> None:
    answers = compile_and_ask(program({name: fields_of(kind) for name, kind in STRUCTS.items()}), tmp_path)
    constants = answers.pop("constants")
    assert {CONSTANTS[word]: value for word, value in constants.items()} == {
        name: getattr(cuda, name) for name in CONSTANTS.values()
    }
    assert set(answers) == set(STRUCTS)
    for name, (*fields, size) in answers.items():
        kind = STRUCTS[name]
        assert size == ctypes.sizeof(kind), name
        for (field, own), (offset, length, sort) in zip(kind._fields_, fields, strict=True):
            descriptor = getattr(kind, field)
            assert (descriptor.offset, descriptor.size) == (offset, length), f"{name}.{field}"
            element = getattr(own, "_type_", None) if issubclass(own, ctypes.Array) else own
            assert KINDS.get(element, "struct") == sort, f"{name}.{field}"


def test_a_forgotten_field_would_show(tmp_path: Path) -> None:
    """Even the last one, where padding hides that the size is another."""
    with pytest.raises(AssertionError, match=r"only 6 names provided"):
        compile_and_ask(program({"PartPool": fields_of(cuda.PartPool)[:6]}), tmp_path)


def test_every_struct_and_every_function_is_mirrored() -> None:
    text = HEADER.read_text()
    assert set(re.findall(r"^struct (\w+)", text, re.MULTILINE)) == set(STRUCTS)
    launches = re.findall(r"^GAITEDGE_API int (gaitedge_\w+)\(const gaitedge::(\w+)\*", text, re.MULTILINE)
    assert {STRUCTS[struct]: function for function, struct in launches} == cuda._FUNCTIONS
