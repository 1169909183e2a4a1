"""What this machine can run: the processor, engines, optional packages, NVIDIA's driver, a Jetson.

Nothing heavy is imported and no driver is called in this process: what might crash or hang runs in
a process of its own, and its end is a finding.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import platform
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gaitedge.errors import MachineError, one_line
from gaitedge.machine import cuda_driver, kernels
from gaitedge.machine.cpu import cpu_features, cpu_model, usable_cores
from gaitedge.machine.cuda_driver import CudaDriver, probe_driver
from gaitedge.machine.isolation import run_apart
from gaitedge.machine.jetson import Jetson, find_jetson

__all__ = ["Finding", "Machine", "State", "examine"]

State = Literal["ok", "absent", "broken"]

OLDEST_PYTHON = (3, 10)
NVIDIA = "0x10de"  # its PCI vendor number


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    topic: str
    state: State
    detail: str
    """What is there, or what is wrong with it."""
    remedy: str | None = None
    """What to run or do; None where nothing is missed."""


@dataclass(frozen=True)
class Machine:
    """Where to look, and whom to ask; the defaults are the machine that this runs on."""

    root: Path = Path("/")
    """/etc, /proc, /sys and /usr are looked for below."""
    architecture: str = platform.machine()
    python: tuple[int, int] = sys.version_info[:2]
    path: str | None = None
    """Where to look for nvcc; None is the environment's PATH."""
    driver_probe: Sequence[str] = cuda_driver.COMMAND
    interpreter: Sequence[str] = (sys.executable,)
    """Tries the engines' packages."""
    timeout: float = cuda_driver.TIMEOUT
    """Seconds that a process which was started may take."""


# Module -> the distributions that may bring it, what it is for, and the command that brings it.
_PACKAGES = {
    "openvino": (("openvino",), "the engine for CPUs", "pip install 'gaitedge[cpu]'"),
    "onnxruntime": (
        ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml"),
        "the other engine for CPUs",
        "pip install 'gaitedge[onnxruntime]'",
    ),
    "torch": (("torch",), "training", "pip install 'gaitedge[train]'"),
    "cv2": (
        (
            "opencv-python-headless",
            "opencv-python",
            "opencv-contrib-python-headless",
            "opencv-contrib-python",
        ),
        "silhouettes from video",
        "pip install 'gaitedge[video]'",
    ),
    "tensorrt": (
        ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"),
        "NVIDIA GPUs",
        "pip install 'gaitedge[tensorrt]'",
    ),
    "polygraphy": (("polygraphy",), "comparing TensorRT engines", "pip install 'gaitedge[tensorrt]'"),
    "pycuda": (("pycuda",), "CUDA kernels from Python", "pip install 'gaitedge[cuda]'"),
}
_NEEDS_GPU = ("tensorrt", "polygraphy", "pycuda")
_JETPACK = "sudo apt install nvidia-jetpack"
_JETSON_REMEDIES = {  # pip's TensorRT is not the Jetson's
    "tensorrt": f"{_JETPACK}, then use a virtual environment made with --system-site-packages",
    "polygraphy": "pip install polygraphy",
}

# In another process, with this one's import path, so that it finds exactly what this one would.
_TRIAL = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
_TRIALS = {
    "openvino": _TRIAL
    + "sys.modules['openvino_telemetry'] = None; "  # it would report the import to Google Analytics
    + "import openvino; print('devices ' + ', '.join(openvino.Core().available_devices))",
    "onnxruntime": _TRIAL
    + "import onnxruntime; print('providers ' + ', '.join(onnxruntime.get_available_providers()))",
    # Over NVIDIA's libraries, of which one is missing often enough; where there is a GPU, importing is safe.
    "tensorrt": _TRIAL + "import tensorrt",
    "pycuda": _TRIAL + "import pycuda.driver",
}

# What a processor's features mean for the engines; the first set of which it has all counts.
_ARITHMETIC = {
    "x86": (
        ({"amx_bf16", "amx_int8"}, "AMX: matrix units for BF16 and INT8"),
        ({"avx512_bf16", "avx512_vnni"}, "AVX-512 with BF16 and VNNI: BF16 and INT8 run fast"),
        ({"avx512_vnni"}, "AVX-512 with VNNI: INT8 runs fast, no BF16"),
        ({"avx512f"}, "AVX-512: FP32 runs fast"),
        ({"avx2", "avx_vnni"}, "AVX2 with VNNI: INT8 runs fast"),
        ({"avx2"}, "AVX2: FP32 runs well"),
        (set(), "no AVX2: the engines run, several times slower than on a newer processor"),
    ),
    "arm": (
        ({"bf16", "i8mm"}, "matrix instructions for BF16 and INT8 (bf16, i8mm)"),
        ({"asimddp"}, "NEON with dot products: INT8 runs fast"),
        ({"asimd"}, "NEON: FP32 runs well"),
        (set(), "no NEON: the engines do not run"),
    ),
}


def examine(machine: Machine | None = None) -> list[Finding]:
    """Look at everything, in the order in which a person would ask. Never raises; takes seconds."""
    machine = machine or Machine()
    jetson = find_jetson(machine.root)
    driver = probe_driver(machine.driver_probe, machine.timeout)
    packages = {name: _package(name, machine, jetson, driver) for name in _PACKAGES}
    built = _kernels(driver)
    return [
        _system(machine),
        _python(machine, jetson),
        *_processor(machine),
        _memory(machine),
        *packages.values(),
        _driver(machine, driver, jetson),
        _toolkit(machine, driver, jetson),
        built,
        *([] if jetson is None else [_jetson(jetson)]),
        _engine(packages, driver, built),
    ]


def _system(machine: Machine) -> Finding:
    release = re.search(r'^PRETTY_NAME="?([^"\n]*)', _read(machine.root / "etc/os-release"), re.MULTILINE)
    name = release[1] if release else f"{platform.system()} {platform.release()}"
    return Finding("system", "ok", f"{name} on {machine.architecture}")


def _python(machine: Machine, jetson: Jetson | None) -> Finding:
    version = ".".join(map(str, machine.python))
    if machine.python >= OLDEST_PYTHON:
        return Finding("python", "ok", f"{version} at {sys.executable}")
    remedy = "flash JetPack 6 or newer" if jetson else "install Python 3.10 or newer"
    return Finding("python", "broken", f"{version} is too old, GaitEdge needs 3.10", remedy)


def _processor(machine: Machine) -> list[Finding]:
    cpuinfo = machine.root / "proc/cpuinfo"
    cores = usable_cores()
    model = cpu_model(cpuinfo) or platform.processor() or "unknown model"
    features = cpu_features(cpuinfo)
    found = [Finding("processor", "ok", f"{model}, {cores} usable core{'s' if cores > 1 else ''}")]
    if not features:
        return [*found, Finding("arithmetic", "absent", "the system does not say what the processor has")]
    family = "arm" if machine.architecture.lower() in ("aarch64", "arm64", "armv8l") else "x86"
    meaning = next(text for needed, text in _ARITHMETIC[family] if needed <= features)
    return [*found, Finding("arithmetic", "ok", meaning)]


def _memory(machine: Machine) -> Finding:
    text = _read(machine.root / "proc/meminfo")
    sizes = dict(re.findall(r"^(MemTotal|MemAvailable):\s*(\d+) kB", text, re.MULTILINE))
    if "MemTotal" not in sizes:
        return Finding("memory", "absent", "the system does not say how much there is")
    total = f"{int(sizes['MemTotal']) / 2**20:.1f} GiB"
    free = f", {int(sizes['MemAvailable']) / 2**20:.1f} free" if "MemAvailable" in sizes else ""
    return Finding("memory", "ok", total + free)


def _package(name: str, machine: Machine, jetson: Jetson | None, driver: CudaDriver) -> Finding:
    distributions, purpose, remedy = _PACKAGES[name]
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        spec = None  # a module of that name that was put into sys.modules by hand
    if spec is None or spec.origin is None:  # without an origin it is a mere folder of that name
        detail = f"not installed; for {purpose}"
        if jetson is not None and name in _JETSON_REMEDIES:
            return Finding(name, "absent", detail, _JETSON_REMEDIES[name])
        if name in _NEEDS_GPU and not driver.devices:
            return Finding(name, "absent", f"{detail}; of no use without an NVIDIA GPU")
        return Finding(name, "absent", detail, remedy)
    version = "of unknown version"
    for distribution in distributions:
        try:
            version = importlib.metadata.version(distribution)
            break
        except (importlib.metadata.PackageNotFoundError, KeyError):  # KeyError: a damaged installation
            continue
    if name not in _TRIALS or (name in _NEEDS_GPU and not driver.devices):
        return Finding(name, "ok", f"{version}; for {purpose}")
    outcome = run_apart([*machine.interpreter, "-c", _TRIALS[name], json.dumps(sys.path)], machine.timeout)
    if outcome.problem is not None:
        again = remedy.replace("install", "install --force-reinstall", 1)
        if jetson is not None and name in _JETSON_REMEDIES:
            again = _JETSON_REMEDIES[name]
        return Finding(name, "broken", f"{version}, but loading it {outcome.problem}", again)
    said = outcome.output.strip()
    return Finding(name, "ok", f"{version}, {said}; {purpose}" if said else f"{version}; for {purpose}")


def _driver(machine: Machine, driver: CudaDriver, jetson: Jetson | None) -> Finding:
    topic = "nvidia driver"
    kernel = re.search(
        r"Kernel Module.*?\s(\d+\.[\d.]+)\s", _read(machine.root / "proc/driver/nvidia/version")
    )
    version = f"driver {kernel[1]}, " if kernel else ""
    if driver.state == "broken":
        remedy = _JETPACK if jetson else "install the driver again for the running kernel, then restart"
        return Finding(topic, "broken", version + driver.detail, remedy)
    if driver.state == "absent":
        if jetson is not None:
            return Finding(topic, "absent", f"{driver.detail} on a Jetson", _JETPACK)
        if _has_nvidia_card(machine.root):
            return Finding(
                topic, "absent", "there is an NVIDIA device, but no driver", "install NVIDIA's driver"
            )
        return Finding(topic, "absent", "no NVIDIA driver and no NVIDIA device")
    cuda = f"CUDA up to {driver.cuda[0]}.{driver.cuda[1]}" if driver.cuda else "CUDA of unknown version"
    if not driver.devices:
        return Finding(topic, "absent", f"{version}{cuda}, but no device that this process may use")
    devices = "; ".join(
        f"{device.name}, compute capability {'.'.join(map(str, device.compute_capability))}, "
        f"{device.memory / 2**30:.1f} GiB, {device.multiprocessors} multiprocessors"
        for device in driver.devices
    )
    return Finding(topic, "ok", f"{version}{cuda}: {devices}")


def _has_nvidia_card(root: Path) -> bool:
    return any(
        _read(device / "vendor").strip() == NVIDIA and _read(device / "class").startswith("0x03")
        for device in root.glob("sys/bus/pci/devices/*")
    )


def _toolkit(machine: Machine, driver: CudaDriver, jetson: Jetson | None) -> Finding:
    for file in sorted(machine.root.glob("usr/local/cuda*/version.json")):
        if (found := re.search(r'"cuda"\s*:\s*\{[^}]*"version"\s*:\s*"([^"]+)"', _read(file))) is not None:
            return Finding("cuda toolkit", "ok", f"{found[1]} in {file.parent}")
    nvcc = shutil.which("nvcc", path=machine.path)
    if nvcc is None:
        remedy = _JETPACK if jetson else "install NVIDIA's CUDA toolkit" if driver.devices else None
        return Finding("cuda toolkit", "absent", "no nvcc; for building CUDA kernels", remedy)
    outcome = run_apart([nvcc, "--version"], machine.timeout)
    found = re.search(r"release (\d+\.\d+)", outcome.output)
    if outcome.problem is not None or found is None:
        problem = outcome.problem or "does not say its version"
        return Finding("cuda toolkit", "broken", f"{nvcc} {problem}", "install the CUDA toolkit again")
    return Finding("cuda toolkit", "ok", f"{found[1]}, {nvcc}")


def _kernels(driver: CudaDriver) -> Finding:
    topic, command = "cuda kernels", "gaitedge plugins build"
    try:
        found = kernels.find_all()
    except (MachineError, OSError) as error:
        return Finding(topic, "broken", one_line(error), command)
    if not found:
        detail = "not built; the engine that needs no TensorRT, and TensorRT's plugins"
        if not driver.devices:
            return Finding(topic, "absent", f"{detail}; of no use without an NVIDIA GPU")
        return Finding(topic, "absent", detail, command)
    current = [built for built in found if built.current]
    if not current:
        return Finding(topic, "broken", f"{found[0].path} was built from other sources", command)
    names = ", ".join(f"{built.path.name} for {', '.join(built.targets)}" for built in current)
    return Finding(topic, "ok", names)


def _jetson(jetson: Jetson) -> Finding:
    if jetson.linux is None:
        detail = f"{jetson.model}; /etc/nv_tegra_release is missing or says nothing, as in a container"
        return Finding("jetpack", "absent", detail, "mount /etc/nv_tegra_release into the container")
    release = f"JetPack {jetson.jetpack}" if jetson.jetpack else "a JetPack that this GaitEdge does not know"
    detail = f"{jetson.model}, Jetson Linux {jetson.linux}, {release}"
    if not jetson.supported:
        detail += ": its Python is older than 3.10"
        return Finding("jetpack", "broken", detail, "flash JetPack 6 or newer")
    return Finding(
        "jetpack", "ok", detail + (f", with TensorRT {jetson.tensorrt}" if jetson.tensorrt else "")
    )


def _engine(packages: dict[str, Finding], driver: CudaDriver, built: Finding) -> Finding:
    """The engine that `gaitedge.engines.load` takes: TensorRT where a bundle has an engine for this
    machine's GPU, else our kernels where it has their weights, else OpenVINO where it is installed, else
    ONNX Runtime."""
    beside = {"tensorrt": packages["tensorrt"], "cuda": built}
    usable = driver.devices and packages["pycuda"].state == "ok"
    names = [name for name, needed in beside.items() if usable and needed.state == "ok"]
    gpu = " and ".join(names) + (" run" if len(names) > 1 else " runs") if names else ""
    for name in ("openvino", "onnxruntime"):
        if packages[name].state == "ok":
            if gpu:
                detail = f"{gpu} bundles that hold an engine for this GPU, {name} the others"
                return Finding("engine", "ok", detail)
            return Finding("engine", "ok", f"{name} runs bundles here")
        if packages[name].state == "broken":
            detail = f"{name} is installed and would be taken, but does not load"
            return Finding("engine", "broken", detail, packages[name].remedy)
    remedy = packages["openvino"].remedy
    if gpu:
        detail = f"{gpu} bundles that hold an engine for this GPU; none to check a new one with"
        return Finding("engine", "ok", detail, remedy)
    return Finding("engine", "absent", "none installed: bundles cannot be run here", remedy)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""  # another system or a sandbox: what is not there is not known
