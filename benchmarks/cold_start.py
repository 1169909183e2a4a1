"""Cold starts: wall time and peak memory of whole processes, each started anew.

    python benchmarks/cold_start.py [--runs 5] [--json OUT]

The commands take turns (A B C A B C …), so that a slow minute of the machine meets all of them.
Limits: `gaitedge --help` 0.4 s, `import gaitedge` 0.15 s, `identify` 2.5 s and 500 MB.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from documents import save

from gaitedge.export.exporter import export
from gaitedge.people.recognizer import Recognizer
from gaitedge.walkers.synthesis import synthesise
from gaitedge.weights import shipped_weights

LIMITS = {"gaitedge --help": (0.4, None), "import gaitedge": (0.15, None), "gaitedge identify": (2.5, 500.0)}


# A process keeps the peak of the one that started it, until it runs a program of its own: so a small
# one stands in between.
LAUNCHER = """
import os, sys, time
began = time.perf_counter()
nothing = os.open(os.devnull, os.O_WRONLY)
quiet = [(os.POSIX_SPAWN_DUP2, nothing, 1)]
process = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=quiet)
_, status, usage = os.wait4(process, 0)
print(time.perf_counter() - began, usage.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def measure(command: list[str]) -> tuple[float, float]:
    """Run a command to its end: wall seconds, and the peak of its resident memory in MB."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", LAUNCHER, *command], stdout=subprocess.PIPE, text=True, check=True
    )
    seconds, kibibytes = done.stdout.split()
    return float(seconds), int(kibibytes) * 1024 / 1e6


def main() -> None:
    """Measure, print a table, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        walks, bundle, gallery = (Path(folder) / name for name in ("walks", "walkers.gait", "people.db"))
        synthesise(
            walks, subjects=4, views=("054", "090"), conditions=("nm-01", "cl-01"), store=True, workers=1
        )
        export(shipped_weights(), bundle)
        Recognizer(bundle, gallery).enroll([f"{walks}:*/nm-01/{view}" for view in ("054", "090")])
        gaitedge = [sys.executable, "-m", "gaitedge"]
        probe = f"{walks}:002/cl-01/090"
        commands = {
            "gaitedge --help": [*gaitedge, "--help"],
            "import gaitedge": [sys.executable, "-c", "import gaitedge"],
            "gaitedge identify": [*gaitedge, "identify", str(bundle), str(gallery), probe],
        }
        runs: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for number in range(options.runs + 1):
            for name, command in commands.items():
                figures = measure(command)
                if number:  # the first round fills the disk's cache
                    runs[name].append(figures)
    results = {
        name: {
            "median_s": statistics.median(seconds for seconds, _ in figures),
            "max_s": max(seconds for seconds, _ in figures),
            "peak_mb": max(memory for _, memory in figures),
        }
        for name, figures in runs.items()
    }
    print(f"{'command':<20}{'median s':>10}{'max s':>8}{'peak MB':>9}   limit")
    for name, row in results.items():
        seconds, memory = LIMITS[name]
        limit = f"{seconds} s" + (f", {memory:.0f} MB" if memory else "")
        print(f"{name:<20}{row['median_s']:>10.3f}{row['max_s']:>8.3f}{row['peak_mb']:>9.0f}   {limit}")
    if options.json:
        save(options.json, results, runs=options.runs)


if __name__ == "__main__":
    main()
