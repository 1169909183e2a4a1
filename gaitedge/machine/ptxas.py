"""What ptxas says of each kernel (`nvcc -Xptxas -v`): registers, shared memory, and what did not fit.

A kernel whose values do not fit in registers keeps them in local memory: a stack frame, spill stores and
spill loads. All of it goes through the caches, so the kernels here are written to have none, and a build
is checked for it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["Kernel", "parse", "problems", "readable"]


@dataclass(frozen=True)
class Kernel:
    """One kernel for one architecture."""

    name: str
    """As in part_pool::channels_last<half, 8>."""
    architecture: int
    """The compute capability: 87 for 8.7."""
    registers: int
    """Of a thread."""
    shared: int
    """Bytes of static shared memory of a block; what a launch asks for comes on top."""
    stack: int
    """Bytes of local memory of a thread, with that of the functions that it calls."""
    spill_stores: int
    """Bytes."""
    spill_loads: int
    """Bytes."""


# From nvcc 12.2 to 13.0 the wording is one: 13.0 has a line with the time more, says how many barriers
# are used, and from compute capability 9.0 on nothing of constant memory.
_ENTRY = re.compile(r"Compiling entry function '([^']+)' for 'sm_(\d+)[a-z]?'")
_MEMORY = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers(.*)")
_SHARED = re.compile(r"(\d+) bytes smem")
_CUMULATIVE = re.compile(r"(\d+) bytes cumulative stack size")


def parse(report: str) -> tuple[Kernel, ...]:
    """Every kernel of a report, by name and architecture; other lines of a build may stand in between."""
    found: dict[tuple[str, int], tuple[int, ...]] = {}
    entry: tuple[str, int] | None = None
    memory = [0, 0, 0]
    for line in report.splitlines():
        if (match := _ENTRY.search(line)) is not None:
            entry, memory = (match[1], int(match[2])), [0, 0, 0]
        elif (match := _MEMORY.search(line)) is not None:
            # Of the kernel itself, then of each function that it calls and that was not inlined.
            memory = [before + int(more) for before, more in zip(memory, match.groups(), strict=True)]
        elif entry is not None and (match := _USED.search(line)) is not None:
            shared, cumulative = _SHARED.search(match[2]), _CUMULATIVE.search(match[2])
            stack = max(memory[0], int(cumulative[1]) if cumulative else 0)
            found[entry] = (int(match[1]), int(shared[1]) if shared else 0, stack, *memory[1:])
            entry = None
    names = readable({symbol for symbol, _ in found})
    rows = [Kernel(names[symbol], number, *values) for (symbol, number), values in found.items()]
    return tuple(sorted(rows, key=lambda row: (row.name, row.architecture)))


def problems(kernels: Iterable[Kernel]) -> tuple[Kernel, ...]:
    """The kernels that use local memory."""
    return tuple(row for row in kernels if row.stack or row.spill_stores or row.spill_loads)


def readable(symbols: Iterable[str], demanglers: Sequence[str] = ("c++filt", "cu++filt")) -> dict[str, str]:
    """Each symbol's name as people write it, without its arguments and without our namespace.

    demanglers: programs of which the first that is there is asked; without any, or where it fails, our
    kernels' names are read here.
    """
    known = sorted(set(symbols))
    for program in filter(None, map(shutil.which, demanglers)):
        done = subprocess.run(  # noqa: S603  (a program of the toolchain, symbols of ours)
            [program], input="\n".join(known), capture_output=True, text=True, check=False
        )
        lines = done.stdout.splitlines()
        if done.returncode == 0 and len(lines) == len(known):
            return dict(zip(known, map(_short, lines), strict=True))
    return {symbol: _own(symbol) for symbol in known}


def _short(name: str) -> str:
    """A demangled function without what says nothing here: its result, arguments and our namespace."""
    if name.endswith(")"):
        depth = 0
        for place in range(len(name) - 1, -1, -1):
            depth += (name[place] == ")") - (name[place] == "(")
            if depth == 0:
                name = name[:place]
                break
    name = name.removeprefix("void ").replace("gaitedge::", "").replace("(anonymous namespace)::", "")
    for long, short in (("__half", "half"), ("unsigned char", "uint8"), ("signed char", "int8")):
        name = name.replace(long, short)
    kernel, bracket, arguments = name.partition("<")
    arguments = re.sub("> (?=>)", ">", arguments)  # as C++11 has it
    room = kernel.rpartition("::")[0]  # the kernel's own namespace, which its arguments need not repeat
    return kernel + bracket + (arguments.replace(f"{room}::", "") if room else arguments)


_TYPES = {"f": "float", "i": "int", "a": "int8", "h": "uint8", "b": "bool", "j": "unsigned int"}


def _own(symbol: str) -> str:
    """A symbol of the Itanium C++ ABI as our kernels have it, read; any other as it is."""
    if not symbol.startswith("_ZN"):
        return symbol
    try:
        return _short(_nested(symbol[3:])[0])
    except ValueError:
        return symbol


def _nested(text: str) -> tuple[str, str]:
    """Names until an E, the last perhaps with template arguments: what they say, and the text after it."""
    names = []
    text = re.sub(r"^S[0-9A-Z]*_", "", text)  # the namespace that was named before
    while text[:1].isdecimal():
        name, text = _name(text)
        names.append(name)
    if not names or not text.startswith("E"):
        raise ValueError(text)
    return "::".join(names), text[1:]


def _name(text: str) -> tuple[str, str]:
    """A name, with its template arguments if it has some."""
    digits = re.match(r"\d+", text)
    if digits is None:
        raise ValueError(text)
    end = digits.end() + int(digits[0])
    name, text = text[digits.end() : end], text[end:]
    if not text.startswith("I"):
        return name, text
    arguments, text = [], text[1:]
    while not text.startswith("E"):
        argument, text = _argument(text)
        arguments.append(argument)
    return f"{name}<{', '.join(arguments)}>", text[1:]


def _argument(text: str) -> tuple[str, str]:
    """A type, or a number."""
    if (number := re.match(r"L([a-z])(n?)(\d+)E", text)) is not None:
        value = ("-" if number[2] else "") + number[3]
        return ("true" if value == "1" else "false") if number[1] == "b" else value, text[number.end() :]
    if text.startswith("N"):
        return _nested(text[1:])
    if text[:1] in _TYPES:
        return _TYPES[text[0]], text[1:]
    return _name(text)
