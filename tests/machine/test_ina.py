from __future__ import annotations

from pathlib import Path

import pytest
from machine_fake import monitor, orin_rails

from gaitedge.errors import MachineError
from gaitedge.machine.ina import find_rails, whole


def test_orin_nano(tmp_path: Path) -> None:
    orin_rails(tmp_path)
    rails = find_rails(tmp_path)
    assert list(rails) == ["VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"]
    assert whole(rails) == ("VDD_IN",)
    assert rails["VDD_IN"].watts() == pytest.approx(5.064 * 0.976)
    assert rails["VDD_IN"].monitor == "INA3221"


def test_agx_orin_s_memory_hangs_on_a_rail_that_is_counted(tmp_path: Path) -> None:
    monitor(
        tmp_path,
        3,
        "ina3221",
        in1_label="VDD_GPU_SOC",
        in1_input=19840,
        curr1_input=200,
        in2_label="VDD_CPU_CV",
        in2_input=19840,
        curr2_input=80,
        in3_label="VIN_SYS_5V0",
        in3_input=4968,
        curr3_input=900,
    )
    monitor(
        tmp_path,
        4,
        "ina3221",
        in1_label="NC",
        in1_input=0,
        curr1_input=0,
        in2_label="VDDQ_VDD2_1V8AO",
        in2_input=4968,
        curr2_input=80,
    )
    rails = find_rails(tmp_path)
    assert "NC" not in rails
    assert whole(rails) == ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0")


def thor(root: Path) -> None:
    monitor(
        root,
        1,
        "ina3221",
        in1_label="VDD_GPU",
        in1_input=19600,
        curr1_input=-20,
        in2_label="VDD_CPU_SOC_MSS",
        in2_input=19600,
        curr2_input=332,
        in3_label="VIN_SYS_5V0",
        in3_input=5000,
        curr3_input=1304,
    )


def test_thor_with_and_without_its_input_s_monitor(tmp_path: Path) -> None:
    thor(tmp_path)
    rails = find_rails(tmp_path)
    assert whole(rails) == ("VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0")
    assert rails["VDD_GPU"].watts() == pytest.approx(-0.392)  # what takes nothing is a little below 0
    board = monitor(tmp_path, 2, "ina238", power1_input=23_100_000, in1_input=20000, curr1_input=1160)
    rails = find_rails(tmp_path)
    assert whole(rails) == ("VIN",)
    assert (rails["VIN"].watts(), rails["VIN"].monitor) == (23.1, "INA238")
    (board / "power1_input").unlink()
    assert rails["VIN"].watts() == pytest.approx(23.2)


def test_a_monitor_that_does_not_answer(tmp_path: Path) -> None:
    folder = orin_rails(tmp_path)
    rail = find_rails(tmp_path)["VDD_IN"]
    (folder / "curr1_input").unlink()
    with pytest.raises(MachineError, match=r"power monitor of VDD_IN cannot be read \(.*hwmon1\)"):
        rail.watts()


def test_a_board_that_is_not_known(tmp_path: Path) -> None:
    monitor(tmp_path, 0, "ina3221", in1_label="VDD_MINE", in1_input=5000, curr1_input=10)
    with pytest.raises(MachineError, match=r"which of this Jetson's rails are the whole .*: VDD_MINE"):
        whole(find_rails(tmp_path))
    with pytest.raises(MachineError, match="shows no power monitor"):
        whole({})
