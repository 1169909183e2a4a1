"""What INT8 costs by the way in which its ranges are chosen: python benchmarks/int8.py STORE

The shipped weights, calibrated on the walkers that they were trained on by each method, with the channels
equalised and without, and judged on walkers that neither they nor the calibration have seen.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from pathlib import Path
from typing import Any, get_args

from documents import save

from gaitedge.bundle import Bundle
from gaitedge.calibration.applying import find_quantization
from gaitedge.calibration.collecting import Method, calibrate
from gaitedge.data.splits import choose_subjects
from gaitedge.data.store import Store
from gaitedge.engines import embed_all, load_target
from gaitedge.evaluation.agreement import Comparison, compare_embeddings
from gaitedge.evaluation.evaluating import Walks
from gaitedge.export.exporter import export
from gaitedge.weights import shipped_weights

PROBE_SETS = ("NM", "BG", "CL")
WAYS = {
    f"{method}, equalised" if equalized else method: (method, equalized)
    for method, equalized in itertools.product(get_args(Method), (False, True))
}


def main() -> None:
    """Measure, print a table, and write the JSON document if asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("store", type=Path, help="gaitedge synth STORE --store --seed 1 --subjects 250")
    parser.add_argument("--shown", default="walkers/train", help="subjects to calibrate on")
    parser.add_argument("--judged", default="walkers/test", help="subjects to judge on")
    parser.add_argument(
        "--ways", nargs="+", choices=WAYS, default=[*WAYS], metavar="WAY", help=f"of: {'; '.join(WAYS)}"
    )
    parser.add_argument("--json", type=Path, metavar="OUT", help="write machine, versions and results here")
    options = parser.parse_args()
    store = Store(options.store)
    judged = choose_subjects(options.judged, (one.subject for one in store.sequences))
    numbers = store.select(subjects=judged)
    walks, sequences = Walks(store, numbers), [store.sequences[number] for number in numbers]

    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        box = Path(folder) / "walkers.gait"
        export(shipped_weights(), box, "cpu")
        exact = embed_all(load_target(Bundle.open(box), "cpu-fp32"), walks)
        for way in options.ways:
            method, equalized = WAYS[way]
            made, start = Path(folder) / "int8.json", time.perf_counter()
            shown = calibrate(box, options.store, made, method, options.shown, equalized=equalized)
            seconds = time.perf_counter() - start
            export(box, box, "cpu", "int8", quantization=find_quantization(box, made))
            found = embed_all(load_target(Bundle.open(box), "cpu-int8"), walks)
            made_row = row(way, compare_embeddings(exact, found, sequences))
            made_row |= {"calibrated_on": shown.sequences, "calibration_s": seconds}
            if not rows:
                show({**made_row, "name": "fp32", "mean_cosine": 1.0, "smallest_cosine": 1.0}, "fp32")
            show(made_row, "int8")
            rows.append(made_row)
    if options.json:
        save(options.json, rows, shown=options.shown, judged=options.judged, sequences=len(numbers))


def row(way: str, found: Comparison) -> dict[str, Any]:
    """What is written of one way."""
    return {
        "name": way,
        "mean_cosine": found.mean_cosine,
        "smallest_cosine": found.minimum_cosine,
        "fp32": {one.probe_set: one.first for one in found.rank1},
        "int8": {one.probe_set: one.second for one in found.rank1},
    }


def show(row: dict[str, Any], which: str) -> None:
    """Print a line of the table."""
    shares = "".join(f"{100 * (row[which].get(name) or 0):9.2f}" for name in PROBE_SETS)
    print(f"{row['name']:24}{row['mean_cosine']:12.6f}{row['smallest_cosine']:12.6f}{shares}", flush=True)


if __name__ == "__main__":
    main()
