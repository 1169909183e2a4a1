from __future__ import annotations

import os
import pkgutil
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from typer.main import get_command

import gaitedge
from gaitedge.errors import MissingPackage, require

OPTIONAL = (
    "cryptography",
    "cv2",
    "matplotlib",
    "onnxruntime",
    "openvino",
    "polygraphy",
    "pycuda",
    "pynvml",
    "scipy",
    "tensorboard",
    "tensorrt",
    "torch",
)
# PyTorch's own rooms; everything else is what a device runs.
NEED_PYTORCH = {
    "gaitedge.model",
    *(
        f"gaitedge.training.{name}"
        for name in ("distributed", "judging", "loop", "losses", "quantization", "trainer")
    ),
}


def in_bare_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code in a Python in which no optional package can be imported."""
    block = f"import sys\nsys.modules.update(dict.fromkeys({OPTIONAL!r}))\n"  # None: not importable
    return subprocess.run(
        [sys.executable, "-c", block + textwrap.dedent(code), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "100"},
    )


def modules() -> list[str]:
    found = pkgutil.walk_packages(gaitedge.__path__, "gaitedge.")
    return sorted({info.name for info in found} - NEED_PYTORCH - {"gaitedge.__main__"})


def commands() -> list[str]:
    from gaitedge.cli.app import app

    def names(command: object, prefix: str) -> list[str]:
        inner = getattr(command, "commands", {})
        return [prefix] + [name for key, sub in inner.items() for name in names(sub, f"{prefix} {key}")]

    return [name.strip() for name in names(get_command(app), "")]


def test_every_module_imports_without_the_optional_packages() -> None:
    assert len(modules()) > 25
    done = in_bare_python(
        "import importlib\nfor name in sys.argv[1:]: importlib.import_module(name)", *modules()
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_every_room_is_in_the_wheel() -> None:
    """An editable install has a folder that the list forgets; an installed one would lack it."""
    root = Path(__file__).resolve().parents[1]
    listed = re.findall(r'^    "(gaitedge[\w.]*)",$', (root / "pyproject.toml").read_text(), re.MULTILINE)
    found = [*root.glob("gaitedge/__init__.py"), *root.glob("gaitedge/**/*/__init__.py")]
    found += root.glob("gaitedge/*/__init__.py")  # of the symlinks too, which ** passes over
    rooms = {".".join(path.parent.relative_to(root).parts) for path in found}
    assert sorted(listed) == sorted(rooms)


def test_every_help_runs_without_the_optional_packages() -> None:
    assert {"demo", "export", "identify", "gallery list"} <= set(commands())
    code = """
        import contextlib, io
        from gaitedge.cli.app import app
        for command in sys.argv[1:]:
            with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
                app([*command.split(), "--help"])
            assert "Usage" in out.getvalue(), command
    """
    done = in_bare_python(code, *commands())
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        (["train", "store", "out.safetensors"], "gaitedge[train]"),
        (["enroll", "walkers.gait", "people.db", "walk", "--id", "anna"], "gaitedge[cpu]"),
    ],
)
def test_a_missing_package_is_one_line_that_says_how_to_get_it(
    command: list[str], extra: str, tmp_path: Path
) -> None:
    import numpy as np
    from PIL import Image

    from gaitedge.engines.inputs import draw_silhouettes
    from gaitedge.export.exporter import export
    from gaitedge.weights import shipped_weights

    export(shipped_weights(), tmp_path / "walkers.gait")
    (tmp_path / "walk").mkdir()
    for number, silhouette in enumerate(draw_silhouettes(1, 20, np.random.default_rng(0))[0]):
        Image.fromarray(silhouette).save(tmp_path / "walk" / f"{number:03d}.png")
    there = ("walkers.gait", "people.db", "walk")
    arguments = [str(tmp_path / part) if part in there else part for part in command]
    done = in_bare_python("from gaitedge.cli import main\nsys.argv[0] = 'gaitedge'\nmain()", *arguments)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert f"pip install '{extra}'" in done.stderr


def test_an_installed_package_that_is_broken_keeps_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pycuda.py").write_text("import a_driver_that_is_not_there\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="a_driver_that_is_not_there"):
        require("pycuda", "a GPU")
    with pytest.raises(MissingPackage, match=r"a GPU needs tensorrt.*pip install 'gaitedge\[tensorrt\]'"):
        require("tensorrt", "a GPU")


@pytest.mark.parametrize("statement", ["import gaitedge", "from gaitedge.cli.app import app"])
def test_importing_loads_nothing_heavy(statement: str) -> None:
    code = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & {"numpy", "onnx", "PIL", "safetensors", *OPTIONAL}


def test_the_public_names() -> None:
    assert gaitedge.__all__ == ["Bundle", "GaitEdgeError", "GaitPartConfig", "Gallery", "Recognizer", "load"]
    assert all(getattr(gaitedge, name) is not None for name in gaitedge.__all__)
    assert set(gaitedge.__all__) < set(dir(gaitedge))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = gaitedge.nothing
