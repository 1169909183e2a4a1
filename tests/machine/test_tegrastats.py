from __future__ import annotations

import sys
from pathlib import Path

import pytest

from gaitedge.errors import MachineError
from gaitedge.machine.tegrastats import Tegrastats, parse_power

# As it is printed by JetPack 6 on an Orin NX and an AGX Orin, and by JetPack 7 on a Thor; shortened.
ORIN_NX = (
    "01-08-2025 10:11:12 RAM 2630/15656MB (lfb 8x4MB) SWAP 0/7828MB (cached 0MB) CPU [1%@729,0%@729,off,off] "
    "EMC_FREQ 0%@2133 GR3D_FREQ 0%@[305] NVDEC off APE 174 cpu@45.25C soc2@44.4C gpu@44.2C tj@45.5C "
    "VDD_IN 4970mW/4968mW VDD_CPU_GPU_CV 495mW/400mW VDD_SOC 1286mW/1200mW"
)
AGX_ORIN = (
    "RAM 13983/62780MB (lfb 424x4MB) CPU [90%@2201,100%@2201] EMC_FREQ 1%@2133 GR3D_FREQ 14%@[407,407] "
    "VIC_FREQ 115 NVDLA0_FREQ @1600 CV0@73.625C Tboard@62C VDD_GPU_SOC 3150mW/2971mW "
    "VDD_CPU_CV 14312mW/12415mW VIN_SYS_5V0 4968mW/5048mW VDDQ_VDD2_1V8AO 1091mW/1091mW"
)
THOR = (
    "RAM 9000/125772MB (lfb 1x4MB) VDD_GPU -392mW/0mW VDD_CPU_SOC_MSS 3924mW/3924mW "
    "VIN_SYS_5V0 4400mW/4400mW VIN 23000mW/23000mW"
)


def program(tmp_path: Path, code: str) -> tuple[str, ...]:
    path = tmp_path / "tegrastats.py"
    path.write_text(code)
    return sys.executable, "-u", str(path)


@pytest.mark.parametrize(
    ("line", "rails"),
    [
        (ORIN_NX, {"VDD_IN": 4.97, "VDD_CPU_GPU_CV": 0.495, "VDD_SOC": 1.286}),
        (
            AGX_ORIN,
            {"VDD_GPU_SOC": 3.15, "VDD_CPU_CV": 14.312, "VIN_SYS_5V0": 4.968, "VDDQ_VDD2_1V8AO": 1.091},
        ),
        (THOR, {"VDD_GPU": -0.392, "VDD_CPU_SOC_MSS": 3.924, "VIN_SYS_5V0": 4.4, "VIN": 23.0}),
        ("RAM 2630/15656MB CPU [off]", {}),
    ],
    ids=["Orin NX", "AGX Orin", "Thor", "none"],
)
def test_a_line(line: str, rails: dict[str, float]) -> None:
    assert parse_power(line) == rails


@pytest.mark.parametrize(
    ("line", "rails", "watts"), [(ORIN_NX, 1, 4.97), (AGX_ORIN, 3, 22.43), (THOR, 1, 23.0)]
)
def test_it_runs_until_it_is_closed(tmp_path: Path, line: str, rails: int, watts: float) -> None:
    stats = Tegrastats(
        program(tmp_path, f"import time\nprint('no power yet')\nprint({line!r})\ntime.sleep(600)"), first_s=60
    )
    assert len(stats.rails) == rails
    assert stats.watts() == pytest.approx(watts)
    assert stats._process.poll() is None
    stats.close()
    assert stats._process.poll() is not None
    with pytest.raises(MachineError, match="tegrastats ended"):
        stats.watts()


def test_it_ends_even_where_it_does_not_listen(tmp_path: Path) -> None:
    deaf = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    code = f"{deaf}print({ORIN_NX!r})\ntime.sleep(600)"
    stats = Tegrastats(program(tmp_path, code), first_s=60)
    stats.close()
    assert stats._process.poll() is not None


@pytest.mark.parametrize(
    ("code", "first_s", "message"),
    [
        ("print('RAM 1/2MB')", 60.0, "ended, and nothing of power"),
        ("import time; time.sleep(600)", 0.01, "said nothing within 0.01 s"),
        (
            "print('VDD_MINE 5mW/5mW'); import time; time.sleep(600)",
            60.0,
            "are the whole module is not known: VDD_MINE",
        ),
    ],
)
def test_nothing_of_use_in_words(tmp_path: Path, code: str, first_s: float, message: str) -> None:
    with pytest.raises(MachineError, match=message):
        Tegrastats(program(tmp_path, code), first_s)


def test_not_there() -> None:
    with pytest.raises(MachineError, match="no-such-tegrastats could not be started: No such file"):
        Tegrastats(("no-such-tegrastats",))
