"""Files that a kernel shows, below a folder that stands for the file system's root."""

from __future__ import annotations

from pathlib import Path

MODES = """
< POWER_MODEL ID=0 NAME=MAXN >
CPU_ONLINE CORE_0 1
< POWER_MODEL ID=1 NAME=MODE_10W >
< POWER_MODEL ID=12 NAME=MODE_15W >
< PM_CONFIG DEFAULT=1 >
"""


def write(path: Path, text: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


def orin(root: Path, *, held: bool = False) -> Path:
    """Its files as JetPack 6 has them, in power mode 1."""
    write(root / "proc/device-tree/model", "NVIDIA Jetson Orin Nano Developer Kit")
    write(root / "var/lib/nvpmodel/status", "pmode:0001 fmode:quiet")
    write(root / "etc/nvpmodel.conf", MODES)
    for device, now in (("17000000.gpu", 612_000_000), ("15340000.vic", 115_200_000)):
        for name, hertz in (
            ("cur_freq", now),
            ("min_freq", 624_750_000 if held else 306_000_000),
            ("max_freq", 624_750_000),
        ):
            write(root / "sys/class/devfreq" / device / name, hertz)
    for cpu in (0, 1):
        folder = root / f"sys/devices/system/cpu/cpu{cpu}/cpufreq"
        write(folder / "scaling_min_freq", 1_510_400 if held else 729_600)
        write(folder / "scaling_max_freq", 1_510_400)
    write(root / "sys/kernel/debug/bpmp/debug/clk/emc/rate", 2_133_000_000)
    write(root / "sys/class/hwmon/hwmon3/oc1_event_cnt", 2)
    write(root / "sys/class/hwmon/hwmon3/oc3_event_cnt", 5)
    return root


def monitor(root: Path, number: int, chip: str, **files: object) -> Path:
    """A chip under /sys/class/hwmon."""
    folder = root / f"sys/class/hwmon/hwmon{number}"
    for name, text in {"name": chip, **files}.items():
        write(folder / name, text)
    return folder


def orin_rails(root: Path) -> Path:
    """Of an Orin Nano, as JetPack 6 shows them: the channels, a shunt's voltage, the sum of all shunts."""
    monitor(root, 0, "tmp451", temp1_input=41000)
    return monitor(
        root,
        1,
        "ina3221",
        in1_label="VDD_IN",
        in1_input=5064,
        curr1_input=976,
        in2_label="VDD_CPU_GPU_CV",
        in2_input=5056,
        curr2_input=96,
        in3_label="VDD_SOC",
        in3_input=5056,
        curr3_input=280,
        in4_input=4880,
        in7_label="sum of shunt voltages",
        in7_input=6760,
        curr4_input=1352,
    )
