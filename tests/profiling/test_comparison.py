"""Two profiles: which rows belong together, which is faster, and what the machine itself did."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from timings import draw_times

from gaitedge.errors import InputError
from gaitedge.profiling.comparison import Comparison, compare
from gaitedge.profiling.document import Configuration, Document, Energy, Figures, Memory, Row
from gaitedge.profiling.figures import summarize
from gaitedge.profiling.gate import slower_than

FP32 = Configuration("openvino", "fp32", "exported", 1, 30, 4, 1)
INT8 = dataclasses.replace(FP32, precision="int8")


def a_row(
    configuration: Configuration = FP32,
    ms: float = 10.0,
    seed: int = 0,
    starts: int = 5,
    runs: int = 100,
    control: float | None = 1.0,
    **more: Any,
) -> Row:
    """control: how long the fixed work takes; None: a GPU's row has none."""
    rng = np.random.default_rng(seed)
    samples = draw_times(rng, (starts, runs), ms, between=0.004).tolist()
    controls = [] if control is None else rng.normal(5 * control, 0.01, starts).tolist()
    return Row(
        configuration,
        figures=Figures(summarize([one for repeat in samples for one in repeat])),
        samples_ms=samples,
        control_ms=controls,
        **more,
    )


def failed(configuration: Configuration) -> Row:
    return Row(configuration, failed="out of memory")


def a_document(*rows: Row, **more: Any) -> Document:
    values: dict[str, Any] = {
        "created": "2026-11-22T22:00:00+00:00",
        "command": "gaitedge bench box.gait",
        "bundle": "box.gait",
        "fingerprint": "0" * 64,
        "environment": {"cpu": "a CPU", "packages": {"openvino": "2026.4.1"}},
        "settings": {"seconds": 5.0},
    }
    return Document(rows=list(rows), **{**values, **more})


def compared(before: Row, after: Row) -> Comparison:
    return compare(a_document(before), a_document(after))


def test_two_identical_runs_are_not_distinguishable() -> None:
    comparison = compared(a_row(seed=1), a_row(seed=2))
    (pair,) = comparison.pairs
    assert pair.verdict == "not distinguishable"
    assert pair.end_to_end.low < 1 < pair.end_to_end.high
    assert pair.throughput.low < 1 < pair.throughput.high
    assert pair.p99 is not None
    assert pair.starts_repeated
    assert [each.ratio for each in pair.corrected] == pytest.approx([pair.end_to_end.ratio] * 2, rel=0.01)
    assert (comparison.unpaired, comparison.notes, pair.notes) == ([], [], [])


def test_a_profile_is_not_distinguishable_from_itself() -> None:
    document = a_document(a_row())
    (pair,) = compare(document, document).pairs
    assert pair.verdict == "not distinguishable"
    assert pair.end_to_end.ratio == 1


@pytest.mark.parametrize(("after_ms", "verdict"), [(5.0, "faster"), (20.0, "slower")])
def test_a_ratio_above_one_is_faster(after_ms: float, verdict: str) -> None:
    (pair,) = compared(a_row(seed=1), a_row(ms=after_ms, seed=2)).pairs
    assert pair.verdict == verdict
    assert pair.end_to_end.ratio == pytest.approx(10 / after_ms, rel=0.05)
    assert pair.throughput.ratio == pytest.approx(10 / after_ms, rel=0.1)
    assert pair.end_to_end.low < 10 / after_ms < pair.end_to_end.high
    assert pair.before_ms / pair.after_ms == pytest.approx(10 / after_ms, rel=0.05)


def test_rows_pair_by_their_configuration_in_any_order() -> None:
    sizes = [dataclasses.replace(FP32, batch=batch) for batch in (1, 4, 8)]
    before = a_document(*(a_row(one, 10.0 * one.batch) for one in sizes), a_row(INT8))
    after = a_document(*(a_row(one, 5.0 * one.batch, 1) for one in reversed(sizes[1:])))
    comparison = compare(before, after)
    assert [(pair.before_row, pair.after_row) for pair in comparison.pairs] == [(1, 1), (2, 0)]
    assert all(pair.before == pair.after for pair in comparison.pairs)
    assert comparison.paired_by == [each.name for each in dataclasses.fields(Configuration)]
    assert [(one.side, one.row) for one in comparison.unpaired] == [("before", 0), ("before", 3)]
    assert "no row with engine openvino, precision fp32, plan exported, batch 1" in comparison.unpaired[0].why


def test_fp32_against_int8_pairs_by_the_rest() -> None:
    comparison = compare(a_document(a_row()), a_document(a_row(INT8, 4.0, 1)))
    (pair,) = comparison.pairs
    assert (pair.before, pair.after, pair.verdict) == (FP32, INT8, "faster")
    assert comparison.paired_by == ["plan", "batch", "frames", "threads", "streams"]
    assert "whatever engine, precision" in comparison.notes[0]


def test_a_gpu_against_a_cpu_pairs_by_shape() -> None:
    gpu = Configuration("tensorrt", "fp16", "fused", 1, 30, None, 1)
    comparison = compare(a_document(a_row()), a_document(a_row(gpu, 1.0, 1, control=None)))
    assert comparison.paired_by == ["batch", "frames", "streams"]
    assert comparison.pairs[0].verdict == "faster"
    assert comparison.pairs[0].control is None


def test_what_could_pair_in_two_ways_does_not() -> None:
    bf16, other = (dataclasses.replace(FP32, precision="bf16"), dataclasses.replace(FP32, batch=2))
    before = a_document(a_row(), a_row(other))
    after = a_document(a_row(INT8), a_row(bf16), a_row(dataclasses.replace(other, precision="int8")))
    comparison = compare(before, after)
    assert [(pair.before_row, pair.after_row) for pair in comparison.pairs] == [(1, 2)]
    assert [(one.side, one.row) for one in comparison.unpaired] == [("before", 0), ("after", 0), ("after", 1)]
    assert "1 rows here and 2 there" in comparison.unpaired[0].why
    assert "not clear" in comparison.unpaired[1].why


def test_failed_rows_are_listed_and_not_replaced() -> None:
    """INT8 is no stand-in for an FP32 that failed."""
    four = dataclasses.replace(FP32, batch=4)
    before = a_document(a_row(), a_row(four), failed(INT8))
    after = a_document(failed(FP32), a_row(four, seed=1), a_row(INT8))
    comparison = compare(before, after)
    assert [(pair.before_row, pair.after_row) for pair in comparison.pairs] == [(1, 1)]
    assert [(one.side, one.row, one.why) for one in comparison.unpaired] == [
        ("before", 0, "its partner failed"),
        ("before", 2, "it failed: out of memory"),
        ("after", 0, "it failed: out of memory"),
        ("after", 2, "its partner failed"),
    ]


def test_a_faster_machine_makes_no_faster_engine() -> None:
    comparison = compared(a_row(ms=10), a_row(ms=8, seed=1, control=0.8))
    (pair,) = comparison.pairs
    assert pair.end_to_end.low > 1
    assert pair.control is not None
    assert pair.control.ratio == pytest.approx(1.25, rel=0.01)
    assert pair.corrected[0].low < 1 < pair.corrected[0].high
    assert pair.verdict == "not distinguishable"
    assert "the machine itself was 24.8% faster after" in pair.notes[0]
    assert "not surely faster any more" in pair.notes[0]
    assert slower_than(comparison, 0.0) == []


def test_a_difference_beyond_the_machines_own_stays() -> None:
    (pair,) = compared(a_row(ms=10), a_row(ms=5, seed=1, control=1.1)).pairs
    assert pair.verdict == "faster"
    assert "slower after" in pair.notes[0]
    assert "any more" not in pair.notes[0]


def test_a_control_that_may_explain_it_takes_a_verdict_back() -> None:
    """On a busy machine its interval reaches over 1, and it is the likeliest reason all the same."""
    busy = dataclasses.replace(a_row(ms=8.5, seed=1), control_ms=[3.0, 3.6, 4.2, 5.1, 6.0])
    (pair,) = compared(a_row(), busy).pairs
    assert pair.end_to_end.low > 1
    assert pair.control is not None
    assert pair.control.low < 1 < pair.end_to_end.low < pair.control.ratio
    assert pair.corrected[0].ratio == pytest.approx(pair.end_to_end.ratio / pair.control.ratio)
    assert pair.verdict == "not distinguishable"
    assert "not surely faster any more" in pair.notes[0]


def test_each_repeat_is_held_against_the_control_beside_it() -> None:
    """Both swing with the machine from start to start; over the control, all starts are alike."""
    before, after = a_row(starts=5, runs=60), a_row(ms=6, seed=1, starts=5, runs=60)

    def swung(row: Row, swings: list[float]) -> Row:
        samples = [[ms * swing for ms in one] for one, swing in zip(row.samples_ms, swings, strict=True)]
        controls = [ms * swing for ms, swing in zip(row.control_ms, swings, strict=True)]
        return dataclasses.replace(row, samples_ms=samples, control_ms=controls)

    (pair,) = compared(swung(before, [1.2, 1.3, 1.4, 1.3, 1.2]), swung(after, [1, 1.1, 1.05, 1.1, 1])).pairs
    once = pair.corrected[0]
    assert once.ratio == pytest.approx(10 / 6, rel=0.03)
    assert once.high / once.low < pair.end_to_end.high / pair.end_to_end.low
    assert pair.verdict == "faster"


def test_a_control_makes_no_verdict() -> None:
    (pair,) = compared(a_row(seed=1), a_row(seed=2, control=1.3)).pairs
    assert pair.corrected[0].low > 1
    assert pair.verdict == "not distinguishable"


def test_an_engine_that_a_busy_machine_slowed_more_than_other_work_is_no_slower_engine() -> None:
    """Two profiles of one engine, as they were measured: 1.92 times as fast, the control 1.62 times."""
    (pair,) = compared(a_row(ms=26.7, control=1.62), a_row(ms=13.8, seed=1)).pairs
    assert pair.corrected[0].low > 1.1
    assert pair.verdict == "not distinguishable"
    assert "the machine itself was" in pair.notes[0]


def test_one_control_has_a_ratio_and_no_interval() -> None:
    before, after = a_row(starts=1), a_row(ms=8, seed=1, starts=1, control=0.75)
    (pair,) = compared(before, after).pairs
    assert pair.control is not None
    assert pair.control.low == pair.control.ratio == pair.control.high
    assert pair.verdict == "not distinguishable"
    assert "too seldom for an interval" in pair.notes[0]


def test_one_start_is_said() -> None:
    comparison = compared(a_row(starts=1), a_row(starts=5, ms=5, seed=1))
    (pair,) = comparison.pairs
    assert (pair.verdict, pair.starts_repeated, pair.p99) == ("faster", False, None)
    assert "starts were not repeated" in comparison.notes[0]


def test_energy_and_memory_are_plain_ratios_where_both_have_them() -> None:
    sensor = {"sensor": "RAPL, package-0"}
    before = a_row(energy=Energy(**sensor, joules_a_sequence=3.0), memory=Memory(300, 100, None))
    after = a_row(energy=Energy(**sensor, joules_a_sequence=2.0), memory=Memory(200, 100, 50))
    (pair,) = compared(before, after).pairs
    assert (pair.energy, pair.process_memory, pair.device_memory) == (1.5, 1.5, None)
    (pair,) = compared(before, a_row(energy=Energy(None, "no sensor"))).pairs
    assert (pair.energy, pair.process_memory, pair.device_memory) == (None, None, None)


def test_what_the_profiles_were_made_with_is_held_side_by_side() -> None:
    environment = {"cpu": "another", "packages": {"openvino": "2025.0.0", "torch": "2.13.0"}}
    after = a_document(a_row(), environment=environment, settings={"seconds": 1.0}, fingerprint="1" * 64)
    assert compare(a_document(a_row()), after).notes == [
        "the weights differ: times may be compared, embeddings may not",
        "cpu differs: a CPU before, another after",
        "packages.openvino differs: 2026.4.1 before, 2025.0.0 after",
        "packages.torch differs: None before, 2.13.0 after",
        "setting seconds differs: 5.0 before, 1.0 after",
    ]


def test_many_pairs_come_with_a_word_on_chance() -> None:
    rows = [a_row(dataclasses.replace(FP32, batch=batch), runs=20, starts=2) for batch in range(1, 21)]
    notes = compare(a_document(*rows), a_document(*rows)).notes
    assert notes == ["of 20 pairs that do not differ, about 1 seem to: by chance"]


def test_it_is_json() -> None:
    comparison = compare(a_document(a_row(), a_row(INT8)), a_document(a_row(ms=5)))
    text = json.dumps(dataclasses.asdict(comparison), allow_nan=False)
    assert json.loads(text)["pairs"][0]["end_to_end"]["low"] == comparison.pairs[0].end_to_end.low


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        (a_document(), a_document(a_row()), "the profile before .* has no rows"),
        (
            a_document(a_row()),
            a_document(failed(FP32)),
            "every row of the profile after .* failed: out of mem",
        ),
        (
            a_document(a_row()),
            a_document(a_row(dataclasses.replace(FP32, batch=2))),
            "no row with batch 1, frames 30, streams 1",
        ),
        (
            a_document(a_row(), failed(INT8)),
            a_document(failed(FP32), a_row(INT8)),
            "can be compared: its partner failed",
        ),
        (a_document(a_row(starts=1, runs=4)), a_document(a_row()), "one start of 4 runs is too little"),
        (a_document(Row(FP32)), a_document(a_row()), "neither figures nor a reason"),
        (
            a_document(dataclasses.replace(a_row(), samples_ms=[])),
            a_document(a_row()),
            "there are no times to compare",
        ),
        (
            a_document(dataclasses.replace(a_row(), control_ms=[-1.0])),
            a_document(a_row()),
            "the control took -1.0 ms",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(before: Document, after: Document, why: str) -> None:
    with pytest.raises(InputError, match=why) as caught:
        compare(before, after)
    assert "\n" not in str(caught.value)


def test_slower_than_names_what_is_surely_slower() -> None:
    rows = [dataclasses.replace(FP32, batch=batch) for batch in (1, 2, 3)]
    before = a_document(*(a_row(one, 10, number) for number, one in enumerate(rows)))
    after = a_document(
        *(a_row(one, ms, 10 + one.batch) for one, ms in zip(rows, (12.0, 10.0, 5.0), strict=True))
    )
    comparison = compare(before, after)
    assert [pair.before.batch for pair in slower_than(comparison, 0.05)] == [1]
    assert 1 / comparison.pairs[0].end_to_end.low > 1.205  # the slowdown may be 20.5 %, and is not surely
    assert slower_than(comparison, 0.205) == []


def test_a_machine_that_may_be_slower_fails_nobody() -> None:
    busy = dataclasses.replace(a_row(ms=12, seed=1), control_ms=[4.0, 5.0, 6.0, 7.0, 9.0])
    comparison = compared(a_row(ms=10), busy)
    assert comparison.pairs[0].corrected[0].high > 0.95
    assert 1 / comparison.pairs[0].end_to_end.high > 1.05
    assert slower_than(comparison, 0.05) == []


def test_a_slower_machine_fails_nobody() -> None:
    comparison = compared(a_row(ms=10), a_row(ms=12, seed=1, control=1.2))
    assert 1 / comparison.pairs[0].end_to_end.high > 1.05
    assert slower_than(comparison, 0.05) == []
