"""Where our code uses TensorRT, and which versions each place is for; read off its syntax tree."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "gaitedge"
MAJORS = {"Eight": 8, "Ten": 10, "Eleven": 11}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def sources() -> list[Path]:
    """Our files that import TensorRT."""
    files = {*PACKAGE.rglob("*.py"), *(PACKAGE / "export").glob("*.py")}  # rglob passes symlinks over
    return sorted(path for path in files if re.search(r"^\s*import tensorrt as trt$", path.read_text(), re.M))


def covers(name: str, version: str) -> bool:
    """Whether a class or function of this name is for this version; most are for all."""
    since = re.search(r"_from_(\d+)_(\d+)$", name)
    if since is not None:
        return tuple(map(int, version.split(".")[:2])) >= (int(since[1]), int(since[2]))
    majors = [MAJORS[word] for word in re.findall(r"[A-Z][a-z]+", name) if word in MAJORS]
    return not majors or int(version.partition(".")[0]) in majors


def foreign(tree: ast.Module, version: str) -> set[int]:
    """The lines that belong to other versions alone."""
    lines: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | Function) and not covers(node.name, version):
            lines |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return lines


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@dataclass(frozen=True)
class Use:
    """One name of TensorRT in our code."""

    path: Path
    where: str
    """The function or class at the top of the file that it lies in."""
    node: ast.Attribute


def uses(path: Path) -> Iterator[Use]:
    """Every attribute of the module `trt`, and of what is annotated as, or comes from, something of it."""
    for top in ast.parse(path.read_text()).body:
        for unit in top.body if isinstance(top, ast.ClassDef) else [top]:
            if not isinstance(unit, Function | ast.ClassDef | ast.AnnAssign):
                continue
            known = {"trt"}
            for node in ast.walk(unit):
                if isinstance(node, ast.arg) and node.annotation and _of(node.annotation, known):
                    known.add(node.arg)
                elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                    if _of(node.annotation, {"trt"}):
                        known.add(node.target.id)
                elif isinstance(node, ast.Assign) and _root(node.value) in known:
                    known |= {name.id for name in node.targets if isinstance(name, ast.Name)}
            for node in ast.walk(unit):
                if isinstance(node, ast.Attribute) and _root(node) in known:
                    name = getattr(unit, "name", "")
                    yield Use(path, f"{getattr(top, 'name', '')}.{name}:{unit.lineno}", node)


def _of(annotation: ast.expr, known: set[str]) -> bool:
    """Whether an annotation is of TensorRT itself, not of a callable or a list of such."""
    parts = annotation.left if isinstance(annotation, ast.BinOp) else annotation
    return isinstance(parts, ast.Attribute) and _root(parts) in known


def _root(node: ast.expr) -> str | None:
    while isinstance(node, ast.Attribute | ast.Call):
        node = node.value if isinstance(node, ast.Attribute) else node.func
    return node.id if isinstance(node, ast.Name) else None


def misspell(lines: list[str], node: ast.Attribute) -> None:
    assert node.end_lineno is not None
    line = lines[node.end_lineno - 1].encode()
    head, tail = line[: node.end_col_offset], line[node.end_col_offset :]
    assert head.endswith(node.attr.encode())
    lines[node.end_lineno - 1] = (head + b"_misspelt" + tail).decode()
