"""Which row of a sweep is looked into, and what becomes of what cannot be told of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from bundles import SMALL, bundle_of
from profiles import make_document, make_layers, make_row

from gaitedge.errors import MachineError
from gaitedge.profiling import details
from gaitedge.profiling.details import add_layers, chosen_row
from gaitedge.profiling.document import Document, Layers, Row
from gaitedge.profiling.sweep import best


def document_of(*rows: Row, bound_ms: float | None = None) -> Document:
    return dataclasses.replace(make_document(), rows=list(rows), best=best(rows, bound_ms))


def with_streams(row: Row, streams: int) -> Row:
    return dataclasses.replace(row, configuration=dataclasses.replace(row.configuration, streams=streams))


SLOW, QUICK = make_row(8, 30, typical=40.0), make_row(1, 30, typical=15.0)  # the slow one has more throughput


@pytest.mark.parametrize(("bound_ms", "number"), [(None, 0), (1000.0, 0), (25.0, 1), (1.0, 1)])
def test_the_best_within_the_bound_or_what_comes_next_to_it(bound_ms: float | None, number: int) -> None:
    assert chosen_row(document_of(SLOW, QUICK, bound_ms=bound_ms)) == number


def test_a_row_of_one_stream_where_there_is_one() -> None:
    assert chosen_row(document_of(with_streams(SLOW, 2), QUICK)) == 1
    assert chosen_row(document_of(with_streams(SLOW, 2), with_streams(QUICK, 2))) == 0


def test_rows_that_failed_are_passed_over() -> None:
    failed = Row(SLOW.configuration, failed="no memory")
    assert chosen_row(document_of(failed, QUICK)) == 1
    with pytest.raises(MachineError, match="could be looked into: no memory"):
        chosen_row(document_of(failed))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, ()),
        ({"total_ms": 20.0}, ("the layers take 78% of a call: ",)),
        ({"blocks": []}, ("no bytes of blocks, nor shares of the roofline: ",)),
    ],
)
def test_what_layers_do_not_tell_is_a_warning(
    change: dict[str, object], said: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_roofline(*_: object, **__: object) -> None:
        raise MachineError("nothing here measures it")

    def measured(*_: object, **__: object) -> Layers:
        return dataclasses.replace(make_layers(), **change)  # type: ignore[arg-type]

    monkeypatch.setattr(details, "measure_roofline", no_roofline)
    monkeypatch.setattr(details, "measure_layers", measured)
    document = dataclasses.replace(document_of(QUICK), warnings=[])
    found = add_layers(document, bundle_of(SMALL).save(tmp_path / "box.gait").path)
    assert found.layers == measured()
    first, *others = found.warnings
    assert first == "no roofline: nothing here measures it"
    assert len(others) == len(said)
    assert all(warning.startswith(start) for warning, start in zip(others, said, strict=True))
