"""A watch over a looped video for minutes: does anything grow? python benchmarks/soak.py VIDEO --minutes 20

The video is watched without end, with a gallery of synthetic walkers, in this process; a thread looks every
ten seconds at the memory, the open files and the threads. Growth is counted from the end of the first
minute (or of the first tenth, if that is sooner) to the end, as the lowest of the readings of a
tenth of the time at either: frames that wait come and go, and are no growth.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import numpy as np
from documents import save

from gaitedge.bundle import Bundle
from gaitedge.errors import GaitEdgeError, InputError
from gaitedge.export.exporter import export
from gaitedge.people.gallery import Enrolment, Gallery
from gaitedge.watching.reports import PersonReport, Report, Status
from gaitedge.watching.watch import watch
from gaitedge.weights import shipped_weights

ALLOWED_MB = 5.0
PEOPLE = 100


def main() -> int:
    """Watch, print a line every reading and the verdict, and write the JSON document if asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("video", help="a file, as gaitedge watch takes it")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--paced", action="store_true", help="at the video's own speed, frames dropped")
    parser.add_argument("--threads", type=int, default=None, help="of the engine")
    parser.add_argument("--every", type=float, default=10.0, help="seconds from one reading to the next")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write machine, versions and results here")
    options = parser.parse_args()
    try:
        return run(options)
    except GaitEdgeError as error:
        parser.exit(1, f"error: {error}\n")


def run(options: argparse.Namespace) -> int:
    """Watch as the options say; 0 where nothing grew."""
    if not Path("/proc/self/statm").exists():
        raise InputError("this benchmark reads /proc, which only Linux has")
    if not (options.minutes > 0 and options.every > 0):
        raise InputError("minutes and the seconds between two readings must be more than 0")
    said: Counter[str] = Counter()
    last: list[Status] = []
    readings: list[dict[str, float]] = []
    begun = time.monotonic()
    end = begun + 60 * options.minutes
    over = threading.Event()

    def report(line: Report) -> None:
        said[line.state if isinstance(line, PersonReport) else line.event] += 1

    def progress(status: Status) -> None:
        last[:] = [status]

    def look() -> None:
        while not over.wait(options.every):
            now = last[0] if last else None
            reading = {
                "seconds": round(time.monotonic() - begun, 1),
                "rss_mb": round(resident_mb(), 2),
                "descriptors": len(list(Path("/proc/self/fd").iterdir())) - 1,  # that of this look
                "threads": len(list(Path("/proc/self/task").iterdir())),
                "frames": now.frames if now else 0,
                "frames_per_s": round(now.rate, 1) if now else 0.0,
                "dropped": now.dropped if now else 0,
            }
            readings.append(reading)
            print("  ".join(f"{name} {value:g}" for name, value in reading.items()), flush=True)

    with tempfile.TemporaryDirectory() as folder:
        bundle, gallery = Path(folder) / "walkers.gait", Path(folder) / "people.db"
        export(shipped_weights(), bundle)
        enroll(bundle, gallery)
        looker = threading.Thread(target=look)
        looker.start()
        try:
            done = watch(
                bundle,
                gallery,
                options.video,
                report,
                threads=options.threads,
                loop=True,
                paced=options.paced,
                stop=lambda: time.monotonic() > end,
                progress=progress,
            )
        finally:
            over.set()
            looker.join()
    if not readings:
        raise InputError("it ended before the first reading; give it more minutes")
    results = summary(readings, min(60.0, 6 * options.minutes)) | {"readings": readings}
    print(f"{done.frames} frames, {done.rate:.1f} a second, {done.dropped} dropped; {done.tracks} tracks")
    print(f"memory grew {results['growth_mb']:+.2f} MB: {'flat' if results['memory_flat'] else 'GROWS'}")
    print(
        f"descriptors {results['descriptors']}: {'flat' if results['descriptors_flat'] else 'GROW'}; "
        f"threads {results['threads']}"
    )
    if options.json:
        save(
            options.json,
            results,
            video=Path(options.video).name,
            minutes=options.minutes,
            paced=options.paced,
            status=asdict(done),
            lines=dict(said),
        )
    return 0 if results["memory_flat"] and results["descriptors_flat"] else 1


def enroll(bundle: Path, gallery: Path) -> None:
    """People of no real walk, who only have to be compared with."""
    opened = Bundle.open(bundle)
    parts, dim = opened.config.parts, opened.config.embedding_dim
    rng = np.random.default_rng(0)
    with Gallery.create(gallery, opened.fingerprint, parts, dim) as people:
        people.enroll_many(
            Enrolment(f"{number:03d}", rng.standard_normal((parts, dim), dtype=np.float32))
            for number in range(PEOPLE)
        )
        people.threshold = 1.0


def summary(readings: list[dict[str, float]], settled: float) -> dict[str, object]:
    """What grew from the readings after `settled` seconds to the last ones."""
    late = [reading for reading in readings if reading["seconds"] >= settled] or readings[-1:]
    several = max(3, len(late) // 10)
    first, end = late[:several], late[-several:]
    # The lowest: frames that wait in the queue come and go, each of 5 MB and more, and are no growth.
    growth = min(r["rss_mb"] for r in end) - min(r["rss_mb"] for r in first)
    descriptors = [int(reading["descriptors"]) for reading in (first[0], end[-1])]
    return {
        "growth_mb": round(growth, 2),
        "memory_flat": growth < ALLOWED_MB,
        "descriptors": descriptors,
        # The file is open but for the moment in which its end becomes its beginning.
        "descriptors_flat": max(r["descriptors"] for r in end) <= max(r["descriptors"] for r in first),
        "threads": [int(reading["threads"]) for reading in (first[0], end[-1])],
    }


def resident_mb() -> float:
    """This process's memory."""
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


if __name__ == "__main__":
    raise SystemExit(main())
