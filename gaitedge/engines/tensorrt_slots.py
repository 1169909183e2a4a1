"""Calls in flight: the pool of slots that hands one to each call. While the bytes of one travel another
computes.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from gaitedge.engines.cuda_memory import gpu
from gaitedge.engines.tensorrt_plan import Plan
from gaitedge.engines.tensorrt_slot import Slot
from gaitedge.engines.timing import CallTimes, LayerTimes
from gaitedge.errors import MachineError

__all__ = ["Slots"]


class Slots:
    """A pool of slots. They are made when first needed: one thread alone uses one, and always the same."""

    def __init__(self, plan: Plan, most: int) -> None:
        """most: slots that there may be."""
        self._plan, self._most = plan, most
        self._idle: list[Slot] = []
        self._made = 0
        self._closed = False
        self._changed = threading.Condition()

    def embed(self, silhouettes: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Run a call in the next slot that is idle. Raises MachineError."""
        with gpu(self._plan.way_out), self._slot() as slot:
            return slot.embed(silhouettes)

    def embed_timed(self, silhouettes: NDArray[np.uint8]) -> tuple[NDArray[np.float32], CallTimes]:
        """The same, and what the call's pieces took. Raises MachineError."""
        with gpu(self._plan.way_out), self._slot() as slot:
            return slot.embed_timed(silhouettes)

    def layer_times(self, calls: Sequence[NDArray[np.uint8]]) -> LayerTimes:
        """Run calls one after the other and sum the time of each layer up. Raises MachineError."""
        with gpu(self._plan.way_out), self._slot() as slot:
            return slot.layer_times(calls)

    def close(self) -> None:
        """Wait for the calls in flight, and give everything back."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: len(self._idle) == self._made)
            idle, self._idle, self._made = self._idle, [], 0
        try:
            with gpu(self._plan.way_out):
                for slot in idle:
                    slot.free()
                self._plan.free()
        except MachineError:
            # The call that met the failure has told of it. Nothing can be given back to a GPU that
            # failed: the driver takes it when the process ends.
            return

    @contextmanager
    def _slot(self) -> Iterator[Slot]:
        slot = self._take()
        try:
            if slot is None:
                slot = Slot(self._plan)
            yield slot
        finally:
            with self._changed:
                if slot is None:
                    self._made -= 1
                else:
                    self._idle.append(slot)
                self._changed.notify_all()

    def _take(self) -> Slot | None:
        """An idle slot, or None where the caller is to make one."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._idle or self._made < self._most)
            if self._closed:
                raise ValueError("this TensorRT engine is closed")
            if self._idle:
                return self._idle.pop()  # the one used last, whose graphs are the likeliest
            self._made += 1
            return None
