"""The arrows of docs/architecture.md, read off the imports."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TRAINING = (
    "distributed",
    "judging",
    "loop",
    "losses",
    "quantization",
    "trainer",
)  # the rest of that room needs no PyTorch

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "gaitedge"
LINKS = [PACKAGE / "calibration", PACKAGE / "export"]  # which rglob passes over
SOURCES = sorted({*PACKAGE.rglob("*.py"), *(path for link in LINKS for path in link.glob("*.py"))})


def imports(path: Path, *, at_the_top: bool = False) -> set[str]:
    """Modules that a file imports, anywhere or when it is itself imported."""
    tree = ast.parse(path.read_text())
    if at_the_top:
        bodies: list[ast.stmt] = []
        for node in tree.body:
            is_for_types = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
            bodies += [] if is_for_types else [node]
        nodes = [
            inner
            for node in bodies
            if not isinstance(node, ast.FunctionDef | ast.ClassDef)
            for inner in ast.walk(node)
        ]
    else:
        nodes = list(ast.walk(tree))
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def reaches(path: Path, forbidden: str) -> bool:
    return any(name == forbidden or name.startswith(f"{forbidden}.") for name in imports(path))


@pytest.mark.parametrize(
    ("rooms", "forbidden"),
    [
        ("engines/", ["gaitedge.export", "gaitedge.people", "gaitedge.cli", "gaitedge.data", "torch"]),
        ("export/", ["torch", "gaitedge.model", "gaitedge.people", "gaitedge.cli", "gaitedge.data"]),
        ("export/", ["gaitedge.calibration", "gaitedge.training", "gaitedge.evaluation"]),
        ("calibration/", ["torch", "gaitedge.model", "gaitedge.cli", "gaitedge.training"]),
        ("data/", ["gaitedge.engines", "gaitedge.export", "gaitedge.people", "gaitedge.model", "torch"]),
        ("walkers/", ["gaitedge.engines", "gaitedge.export", "gaitedge.people", "gaitedge.model", "torch"]),
        ("machine/", ["gaitedge.engines", "gaitedge.export", "gaitedge.people", "gaitedge.data", "torch"]),
        ("people/", ["gaitedge.export", "gaitedge.cli", "gaitedge.model", "torch"]),
        ("video/", ["gaitedge.export", "gaitedge.people", "gaitedge.cli", "gaitedge.model", "torch"]),
        ("watching/", ["gaitedge.export", "gaitedge.cli", "gaitedge.model", "gaitedge.training", "torch"]),
        ("profiling/", ["gaitedge.cli", "gaitedge.training", "gaitedge.evaluation"]),
        *(
            (room, ["gaitedge.profiling"])
            for room in ("engines/", "export/", "calibration/", "machine/", "people/", "video/", "watching/")
        ),
        ("bundle.py", ["gaitedge.engines", "gaitedge.export", "gaitedge.people", "gaitedge.data"]),
        ("model.py", ["gaitedge.data", "gaitedge.engines", "gaitedge.export", "gaitedge.training"]),
        ("config.py", ["gaitedge.weights", "gaitedge.model", "gaitedge.data"]),
        ("errors.py", ["gaitedge"]),
        ("files.py", ["gaitedge"]),
    ],
)
def test_arrows_point_one_way(rooms: str, forbidden: list[str]) -> None:
    here = [path for path in SOURCES if room(path).startswith(rooms)]
    assert here, f"no room {rooms}"
    assert [(room(path), name) for path in here for name in forbidden if reaches(path, name)] == []


def test_nothing_imports_the_command_line_but_itself() -> None:
    outside = [path for path in SOURCES if not room(path).startswith(("cli/", "__main__"))]
    assert [room(path) for path in outside if reaches(path, "gaitedge.cli")] == []


def test_heavy_packages_are_imported_where_they_are_used() -> None:
    heavy = {"torch", "tensorrt", "pycuda", "openvino", "onnxruntime", "cv2", "polygraphy", "onnx", "PIL"} | {
        "cryptography",
        "matplotlib",
        "pynvml",
        "scipy",
        "tensorboard",
    }
    pytorch = {"model.py", *(f"training/{name}.py" for name in TRAINING)}
    for path in SOURCES:
        loaded = {name.partition(".")[0] for name in imports(path, at_the_top=True)} & heavy
        assert loaded <= ({"torch"} if room(path) in pytorch else set()), room(path)


def test_every_room_is_on_the_map() -> None:
    """docs/architecture.md names every file and folder of the package."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    names = {room(path).split("/")[0] for path in SOURCES} - {"__init__.py", "__main__.py"}
    assert sorted(name for name in names if name not in text) == []


def test_one_idea_a_file() -> None:
    assert {
        room(path): lines for path in SOURCES if (lines := len(path.read_text().splitlines())) > 360
    } == {}
