"""Every TensorRT name, signature and enumeration that we use exists in the versions that we name.

No TensorRT is here, but its real Python bindings are: tensorrt_bindings.py makes type stubs of them,
and mypy holds our code against the stubs of 8.6, 10.3, 10.16 and 11.4. What belongs to some versions
alone lies in a class or function whose name says so, and counts for these: `_Eight`, `_TenEleven`,
`_same_compute_capability_from_10_16`.
"""

from __future__ import annotations

import ast
import enum
import itertools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tensorrt_bindings import BINDINGS, Stubs, Unavailable, make_stubs
from tensorrt_fake import VERSIONS, fake_tensorrt
from tensorrt_uses import PACKAGE, ROOT, Use, covers, foreign, misspell, relative, sources, uses

pytestmark = pytest.mark.slow

# Of the methods that we call: those of which the bindings' docstrings give no signature. Their names
# are checked, their arguments are not.
OPEN = {
    "8.6.1": {"ICudaEngine.create_engine_inspector", "ICudaEngine.get_tensor_mode", "OnnxParser.get_error"},
    "10.3.0": {"OnnxParser.get_error"},
    "10.16.1.11": {"OnnxParser.get_error"},
    "11.4.0.106": {"OnnxParser.get_error"},
}

Mypy = Callable[..., str]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bindings")


_CLOCK = itertools.count(10**9)
_MADE: dict[str, Stubs | str] = {}


@pytest.fixture(params=list(BINDINGS))
def stubs(request: pytest.FixtureRequest, folder: Path) -> Stubs:
    """The stubs of one version; made once."""
    version = request.param
    if version not in _MADE:
        (folder / version).mkdir()
        try:
            _MADE[version] = make_stubs(version, folder / version)
        except Unavailable as error:
            _MADE[version] = str(error)
    made = _MADE[version]
    if isinstance(made, str):
        pytest.skip(made)
    return made


@pytest.fixture
def mypy(stubs: Stubs, folder: Path, tmp_path: Path) -> Mypy:
    """Runs mypy over our files against the stubs; what it says of the lines that count.

    changed: file -> another text to read in its place.
    """

    def run(changed: dict[Path, str] | None = None) -> str:
        arguments: list[str] = []
        for path, text in (changed or {}).items():
            shadow = tmp_path / f"{path.parent.name}_{path.name}"
            # mypy takes what has the same size and second for the same, or the size of the original.
            shadow.write_text(text + "\n" * 1000)
            os.utime(shadow, (next(_CLOCK), next(_CLOCK)))
            arguments += ["--shadow-file", relative(path), str(shadow)]
        modules = [relative(path).removesuffix(".py").replace("/", ".") for path in sources()]
        # A base class without stubs needs an ignore, which is then one too many; a method of which the
        # stubs know no signature is OPEN.
        options = ["--no-warn-unused-ignores", "--allow-untyped-calls", "--no-error-summary", "--no-pretty"]
        command = [sys.executable, "-m", "mypy", *options, "--cache-dir", str(folder / "cache"), *arguments]
        done = subprocess.run(
            [*command, *(word for module in modules for word in ("-m", module))],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
            env={**os.environ, "MYPYPATH": str(stubs.folder)},
        )
        assert done.returncode in (0, 1), done.stderr or done.stdout
        lines = []
        for path in sources():
            elsewhere = foreign(ast.parse((changed or {}).get(path, path.read_text())), stubs.version)
            for line in done.stdout.splitlines():
                found = re.match(rf"{re.escape(relative(path))}:(\d+): error: ", line)
                if found is not None and int(found[1]) not in elsewhere:
                    lines.append(line)
        return "\n".join(lines)

    return run


def test_the_files_that_use_tensorrt_are_known() -> None:
    names = {relative(path) for path in sources()}
    assert names >= {
        "gaitedge/engines/tensorrt.py",
        "gaitedge/export/tensorrt.py",
        "gaitedge/export/timing_cache.py",
        "gaitedge/machine/tensorrt.py",
        "gaitedge/machine/tensorrt_versions.py",
    }
    imported = re.compile(r"^\s*(import tensorrt\b(?! as trt$)|from tensorrt\b)", re.M)  # would go unseen
    files = {*PACKAGE.rglob("*.py"), *(PACKAGE / "export").glob("*.py")}
    assert [relative(path) for path in sorted(files) if imported.search(path.read_text())] == []


@pytest.mark.parametrize(
    ("name", "versions"),
    [
        ("_Eight", "8.6.1"),
        ("_TenEleven", "10.3.0 10.16.1.11 11.4.0.106"),
        ("_Eleven", "11.4.0.106"),
        ("_same_compute_capability_from_10_16", "10.16.1.11 11.4.0.106"),
        ("Dialect", "8.6.1 10.3.0 10.16.1.11 11.4.0.106"),
        ("_attend", "8.6.1 10.3.0 10.16.1.11 11.4.0.106"),
    ],
)
def test_a_name_says_for_which_versions_it_is(name: str, versions: str) -> None:
    assert [version for version in BINDINGS if covers(name, version)] == versions.split()


def test_every_name_exists(mypy: Mypy) -> None:
    assert mypy() == ""


def test_every_name_is_really_held_against_the_stubs(mypy: Mypy, stubs: Stubs) -> None:
    """Each name of TensorRT in our code, once misspelt, is found: none hides behind an Any.

    A mistake may hide another one in its function: what was not found among others is tried with fewer of
    them, and in the end on its own.
    """
    waiting: dict[tuple[Path, str], list[Use]] = {}
    for path in sources():
        elsewhere = foreign(ast.parse(path.read_text()), stubs.version)
        for use in uses(path):
            if use.node.lineno not in elsewhere:
                waiting.setdefault((path, use.where), []).append(use)
    assert sum(map(len, waiting.values())) > 100
    together, unseen = dict.fromkeys(waiting, True), []
    while any(waiting.values()):
        chosen: dict[tuple[str, int, str], Use] = {}  # which of them mypy names is plain
        for which, group in waiting.items():
            for use in group if together[which] else group[:1]:
                chosen[relative(use.path), use.node.lineno, use.node.attr] = use
        changed = {path: path.read_text().splitlines() for path in {use.path for use in chosen.values()}}
        # From the end, so that what comes before stays where it is.
        for use in sorted(chosen.values(), key=lambda use: -(use.node.end_col_offset or 0)):
            misspell(changed[use.path], use.node)
        said = mypy({path: "\n".join(lines) + "\n" for path, lines in changed.items()})
        found = re.findall(r"^(.+?):(\d+): error: .*?(\w+)_misspelt\b", said, re.M)
        seen = [chosen.get((path, int(line), name)) for path, line, name in found]
        for which, group in waiting.items():
            left = [use for use in group if use not in seen]
            if not together[which]:  # its first one was on its own
                unseen += [use for use in left if use is group[0]]
                left = group[1:]
            together[which] &= len(left) < len(group)
            waiting[which] = left
    assert [f"{relative(use.path)}:{use.node.lineno}: {ast.unparse(use.node)}" for use in unseen] == []


MISTAKES = {
    "an argument too many": ("export/tensorrt.py", "create_builder_config()", "create_builder_config(1)"),
    "an argument too few": (
        "export/timing_cache.py",
        "set_timing_cache(cache, False)",
        "set_timing_cache(cache)",
    ),
    "another enumeration": (
        "export/tensorrt.py",
        "set_flag(trt.BuilderFlag.",
        "set_flag(trt.MemoryPoolType.",
    ),
    "an argument of another type": ("export/tensorrt.py", "trt.Dims([batch, frames,", "list([batch, frames,"),
    "an argument that has another name": (
        "export/timing_cache.py",
        "set_timing_cache(fresh, False)",
        "set_timing_cache(fresh, ignore=False)",
    ),
    "a method that a base class calls by another signature": (
        "machine/tensorrt.py",
        "def log(self, severity: trt.ILogger.Severity, msg: str)",
        "def log(self, severity: trt.ILogger.Severity, msg: int)",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_found(mypy: Mypy, mistake: str) -> None:
    name, right, wrong = MISTAKES[mistake]
    path = PACKAGE / name
    text = path.read_text()
    assert right in text
    assert mypy({path: text.replace(right, wrong, 1)}).count("error:") >= 1


GONE = {
    "8.6.1": ("class _Eight(", "EXPLICIT_BATCH", "STRONGLY_TYPED"),
    "10.3.0": ("class _Ten(", "STRONGLY_TYPED", "EXPLICIT_PRECISION"),
    "10.16.1.11": ("def _same_compute_capability_from_10_16(", "SAME_COMPUTE_CAPABILITY", "SAME_DEVICE"),
    "11.4.0.106": ("class _TenEleven(", "registry.get_creator(", "registry.get_plugin_creator("),
}


def test_a_name_of_another_version_in_a_versions_own_branch_is_found(mypy: Mypy, stubs: Stubs) -> None:
    head, right, wrong = GONE[stubs.version]
    path = PACKAGE / "machine" / "tensorrt_versions.py"
    before, middle, after = path.read_text().partition(head)
    assert right in after
    assert mypy({path: before + middle + after.replace(right, wrong, 1)}) != ""


def test_what_the_stubs_leave_open(stubs: Stubs) -> None:
    called = {use.node.attr for path in sources() for use in uses(path)} - {"__init__"}
    enums = {"ErrorCode.name"}  # their names and values, which our attributes of that name are not
    vague = {name for name in stubs.vague() - enums if name.partition(".")[2] in called}
    assert vague == OPEN[stubs.version]
    assert not called & set(stubs.mended)


def test_the_fake_has_no_name_that_the_real_one_lacks(stubs: Stubs) -> None:
    assert tuple(BINDINGS) == VERSIONS
    trt, _ = fake_tensorrt(stubs.version)
    assert missing(trt, stubs, "") == []


def missing(owner: Any, stubs: Stubs, path: str) -> list[str]:
    """What the fake's module, or one of its classes, has and the real one does not."""
    real, lacking = stubs.members(path), []
    members = owner.__members__ if isinstance(owner, enum.EnumMeta) else vars(owner)
    for name, value in members.items():
        if name.startswith("_"):
            continue
        here = f"{path}.{name}" if path else name
        if name not in real:
            lacking.append(here)
        elif isinstance(value, type):
            lacking += missing(value, stubs, here)
    return lacking


# What needs no GPU runs over the real bindings: enumerations, shapes, and classes that derive from theirs.
ALIVE = """
import sys, types
import tensorrt_bindings as trt
sys.modules["tensorrt"] = trt
from gaitedge.engines.tensorrt_profiler import Profiler
from gaitedge.machine.tensorrt import log, version
from gaitedge.machine.tensorrt_versions import dialect

log().logger.log(trt.ILogger.Severity.ERROR, "one\\n error")
log().logger.log(trt.ILogger.Severity.WARNING, "one warning")
log().logger.log(trt.ILogger.Severity.INFO, "nothing")
here, config, seen = dialect(trt), types.SimpleNamespace(), []
monitor = here.watch(config, lambda *step: seen.append(step), lambda: True)
if monitor is not None:
    assert config.progress_monitor is monitor
    monitor.phase_start("Tactic Timing", None, 4)
    assert monitor.step_complete("Tactic Timing", 0) is False
print(version(trt), list(log().errors), list(log().warnings), here.network_flags(), seen)
print([str(here.level(name)) for name in ("none", "ampere+", "same-compute-capability")])
print(tuple(trt.Dims([1, 30, 64, 44])))

class Context:
    def report_to_profiler(self):
        for _ in range(2):
            self.profiler.report_layer_time("fconv1.conv", 0.5)
        return True

profiler, context = Profiler(), Context()
profiler.attach(context)
profiler.count(context)
profiler.count(context)
assert isinstance(context.profiler, trt.IProfiler)
print([(layer.name, layer.ms) for layer in profiler.sums([])])
"""


def test_what_needs_no_gpu_runs_over_the_real_bindings(stubs: Stubs) -> None:
    said = stubs.run(ALIVE).splitlines()
    major, minor = map(int, stubs.version.split(".")[:2])
    flags = {8: 1, 10: 1 << 1, 11: None}[major]
    steps = [("Tactic Timing", 0, 4), ("Tactic Timing", 1, 4)] if major >= 10 else []
    assert said[0] == f"({major}, {minor}) ['one error'] ['one warning'] {flags or 0} {steps}"
    same = "HardwareCompatibilityLevel.SAME_COMPUTE_CAPABILITY" if (major, minor) >= (10, 16) else "None"
    names = ["HardwareCompatibilityLevel.NONE", "HardwareCompatibilityLevel.AMPERE_PLUS", same]
    times = [("fconv1.conv", 1.0), ("fconv1.conv (2)", 1.0)]
    assert said[1:] == [str(names), "(1, 30, 64, 44)", str(times)]


def test_the_wheels_are_fetched_or_the_reason_is_given(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(Unavailable, match=r"C compiler|Linux"):
        make_stubs("11.4.0.106", folder)
