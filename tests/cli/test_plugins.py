"""`gaitedge plugins`, over an nvcc and a cmake that only say what the real ones say."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import nvcc_fake
import pytest
from commands import Done, check_refusal, contents, in_process, succeed
from processes import check_interrupted, group_of, linux, press, start, until

from gaitedge.machine.kernels import fingerprint

Tools = Callable[..., None]


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tools:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "160")
    return lambda **options: nvcc_fake.install(monkeypatch, tmp_path / "bin", **options)


def test_build_shows_registers_by_kernel_and_target(tools: Tools, tmp_path: Path) -> None:
    tools()
    done = succeed("plugins", "build", "--arch", 87, "--arch", 90, "--out", tmp_path / "box")
    head, row = (
        line.split() for line in done.stdout.splitlines() if line.lstrip().startswith(("k", "plain"))
    )
    assert head == ["kernel", "sm_87", "sm_90"]
    assert row == ["plain<half,", "8>", "42", "42"]
    assert "Warning" not in done.stdout
    assert f"wrote {tmp_path}/box/libgaitedge_kernels.so\n" in done.stdout
    assert "no plugins: TensorRT's headers were not found" in done.stdout
    assert done.stdout.endswith(f"next: export GAITEDGE_KERNELS={tmp_path}/box\n")


def test_build_says_what_spills_and_strict_fails(tools: Tools, tmp_path: Path) -> None:
    tools(spills=(12, 16))
    command = ["plugins", "build", "--arch", "all", "--out", tmp_path / "box"]
    done = succeed(*command)
    assert "Warning: these do not fit into registers" in done.stdout
    assert "plain<half, 8>   sm_110" in done.stdout
    for more in ([], ["--json"]):
        strict = in_process(*command, "--strict", *more)
        assert strict.status == 1
        assert strict.stdout
        assert strict.stderr.startswith("gaitedge: local memory is used by plain<half, 8>")
        assert strict.stderr.count("\n") == 1
    tools()
    succeed(*command, "--strict")


def test_build_as_json_then_list(tools: Tools, tmp_path: Path) -> None:
    tools()
    assert succeed("plugins", "list").stdout == "no libraries; run: gaitedge plugins build\n"
    assert succeed("plugins", "list", "--json").json == []
    done = succeed("plugins", "build", "--arch", "all", "--json").json
    assert done["architectures"] == [75, 86, 87, 90, 110]
    assert done["toolkit"]["version"] == "13.0.88"
    assert done["kernels"][0] == {
        "name": "plain<half, 8>",
        "architecture": 75,
        "registers": 42,
        "shared": 0,
        "stack": 0,
        "spill_stores": 0,
        "spill_loads": 0,
    }
    assert done["problems"] == []
    (library,) = done["libraries"]
    assert Path(library["path"]).is_file()
    assert library["sources"] == fingerprint()
    assert succeed("plugins", "list", "--json").json == [library]
    shown = succeed("plugins", "list").stdout
    assert "sm_75 sm_86 sm_87 sm_90 sm_110 nvcc_13.0.88" in shown
    assert "current" in shown


def test_list_names_what_must_be_built_again(
    tools: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "box" / "libgaitedge_kernels.so"
    old.parent.mkdir()
    old.write_bytes(b"gaitedge-build sources=" + 64 * b"7" + b" targets=sm_87\0")
    monkeypatch.setenv("GAITEDGE_KERNELS", str(old.parent))
    shown = succeed("plugins", "list").stdout
    assert "777777777777" in shown
    assert "of other sources: build again" in shown


@linux
def test_list_where_the_variable_names_nothing(
    tools: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools()
    box = tmp_path / "my box"
    (box / "libgaitedge_kernels.so").mkdir(parents=True)
    os.mkfifo(box / "libgaitedge_plugins_trt10.so")
    monkeypatch.setenv("GAITEDGE_KERNELS", str(box))
    assert succeed("plugins", "list").stdout == f"no libraries; run: gaitedge plugins build --out '{box}'\n"
    (box / "libgaitedge_kernels.so").rmdir()
    done = succeed("plugins", "build", "--arch", 87, "--out", box)
    assert done.stdout.endswith(f"next: export GAITEDGE_KERNELS='{box}'\n")
    assert "my box" in succeed("plugins", "list").stdout
    monkeypatch.setenv("GAITEDGE_KERNELS", "")
    assert succeed("plugins", "list").stdout == "no libraries; run: gaitedge plugins build\n"


@pytest.mark.parametrize(
    ("arguments", "needle"),
    [
        (["--arch", "120"], "nvcc 13.0.88 does not know architecture 120; it knows 75, 86, 87, 90, 110"),
        (["--arch", "61"], "61 is too old an architecture"),
        (["--arch", "87", "--tensorrt-include", "/none"], "/none has no NvInferVersion.h"),
        (["--arch", "87", "--nvcc", "/none/nvcc"], "there is no /none/nvcc"),
        (["--arch", "87", "--out", "/none/box"], "there is no folder /none"),
    ],
)
def test_what_cannot_be_built(tools: Tools, tmp_path: Path, arguments: list[str], needle: str) -> None:
    tools()
    before = contents(tmp_path)
    check_refusal(in_process("plugins", "build", *arguments), needle)
    assert contents(tmp_path) == before


def test_what_does_not_compile_is_one_line(tools: Tools, tmp_path: Path) -> None:
    tools(built="a.cu(3): error: no such word", build_status=1)
    failed = in_process("plugins", "build", "--arch", "87", "--out", tmp_path / "box")
    check_refusal(failed, "do not compile: a.cu(3): error: no such word", "build.log")
    assert not (tmp_path / "box").exists()


@pytest.mark.parametrize(
    "arch", [["sm_87"], ["all", "87"], ["-5"], [" 90 "], ["9_0"], ["٩٠"], ["", "87"], [5000 * "9"]]
)
def test_no_architecture(arch: list[str]) -> None:
    done = in_process("plugins", "build", *(part for each in arch for part in ("--arch", each)))
    assert done.status == 2
    assert "is no number such as 87" in done.stderr


@linux
def test_interrupting_a_build_leaves_nothing(tools: Tools, tmp_path: Path) -> None:
    mark = tmp_path / "compiling"
    tools(hang=mark)
    process = start(
        *("plugins", "build", "--arch", "87", "--out", tmp_path / "box"),
        env={**os.environ, "TMPDIR": str(tmp_path)},
        cwd=tmp_path,
    )
    until(mark.exists, process)
    done: Done = press(process)
    assert check_interrupted(done)
    assert group_of(int(mark.read_text())) == [], "the compiler goes on"
    assert {path.name for path in tmp_path.iterdir()} == {"bin", "compiling"}
