"""GaitEdge's own CUDA kernels on an NVIDIA GPU: a driver, pycuda and the kernels' library, no TensorRT.

The paper's network takes two launches a call, whatever the batch; see cuda_forms.py. What it runs from is
packed weights, no engine of one GPU: the same bundle serves every device.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gaitedge.bundle import Bundle
from gaitedge.cuda import Library
from gaitedge.engines import check_batch, check_sequence
from gaitedge.engines.cuda_calls import Calls
from gaitedge.engines.cuda_forms import Batch
from gaitedge.engines.cuda_layers import add_up
from gaitedge.engines.cuda_payload import Payload
from gaitedge.engines.timing import CallTimes, LayerTimes
from gaitedge.errors import BundleError, InputError, MachineError
from gaitedge.machine.cuda_driver import CudaDevice
from gaitedge.machine.tensorrt import gpu_lacking, require_gpu, require_library
from gaitedge.manifest import Target

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["CudaEngine", "CudaFrames", "lacking", "require_kernels"]

_WHY = "the CUDA engine"


def require_kernels(why: str) -> tuple[CudaDevice, Library]:
    """The GPU and the kernels for it.

    why: what needs them. Raises MachineError without a usable GPU, before anything else is touched, and
    where the kernels' library is not built; MissingPackage without pycuda.
    """
    from gaitedge.machine.kernels import find_library

    device = require_gpu(why)
    require_library("pycuda.driver", why)
    return device, Library(find_library())


def lacking() -> str | None:
    """What is missing for running the kernels here, in a few words; None where nothing is."""
    from gaitedge.machine.kernels import find_library

    missing = gpu_lacking(pycuda="pycuda")
    if missing is None:
        try:
            find_library()
        except MachineError as error:
            return str(error)
    return missing


class _OnTheGpu:
    """A bundle's packed weights on the GPU, with memory there that is used again and again.

    What it holds is given back when it is closed, when nobody has it any more, or when Python exits.
    """

    name = "cuda"

    def __init__(self, bundle: Bundle, target: Target, why: str, *, only_frames: bool = False) -> None:
        """Load a target's weights. why: why this engine was taken; only_frames: as Calls takes it.

        Raises MachineError without a usable GPU, enough memory on it or the kernels' library,
        MissingPackage without pycuda, BundleError where the weights are of another format or damaged.
        """
        path, packed = bundle.path, target.packed
        again = f"run: gaitedge export {path} --target cuda --precision {target.precision}"
        if packed is None:
            raise BundleError(f"{path} holds no weights for the CUDA kernels; {again}")
        device, library = require_kernels(_WHY)
        try:
            data = bundle.read(packed.member)
            payload = Payload.read(data, bundle.config, bundle.fingerprint, target.precision)
        except BundleError as error:
            raise BundleError(f"{path}: {packed.member} cannot be run: {error}; {again}") from None
        self.config, self.fingerprint, self.precision = bundle.config, bundle.fingerprint, target.precision
        self._why = why
        self._about = f"CUDA kernels on {device.name}, {target.precision}, {payload.form}"
        self._calls = Calls(self.config, payload, library, only_frames=only_frames)
        # At the exit too: before pycuda is torn down.
        self._end = weakref.finalize(self, self._calls.close)

    @property
    def description(self) -> str:
        """The GPU, precision, form, whether CUDA graphs are used, and why it was taken."""
        lacking = self._calls.why_no_graphs
        graphs = f"no CUDA graphs ({lacking})" if lacking else "CUDA graphs"
        return f"{self._about}, {graphs}; {self._why}"

    def close(self) -> None:
        """Wait for the call under way and give everything back; ValueError where it is used again."""
        self._end()


class CudaEngine(_OnTheGpu):
    """The whole network."""

    largest_batch: int | None = None

    def embed(self, silhouettes: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Silhouettes [batch, frames, 64, 44] to embeddings [batch, parts, dim], a fresh array.

        Raises SilhouetteError on another type or shape, MachineError where the GPU fails or its memory
        does not suffice. Calls from several threads run one after the other.
        """
        whole = check_batch(silhouettes)
        return self._calls.embed(_batch(whole), [whole])

    def embed_timed(self, silhouettes: NDArray[np.uint8]) -> tuple[NDArray[np.float32], CallTimes]:
        """As embed, and what the call's pieces took: the copies by themselves, the kernels by a CUDA graph of
        their own where the shape came before. Raises as embed does."""
        whole = check_batch(silhouettes)
        return self._calls.embed_timed(_batch(whole), [whole])

    def layer_times(self, calls: Sequence[NDArray[np.uint8]]) -> LayerTimes:
        """Run calls and sum the time of each kernel up over them, in the order in which they run.

        Each call's kernels run several times before they are timed, so that the GPU never waits for the next
        launch. Raises as embed does, MachineError where that cannot be had, InputError without calls.
        """
        if not calls:
            raise InputError("the time of layers needs 1 call or more, not 0")
        whole = [check_batch(silhouettes) for silhouettes in calls]
        times = add_up(time for each in whole for time in self._calls.layer_times(_batch(each), [each]))
        return LayerTimes(times, None)

    def embed_many(self, sequences: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Sequences of any lengths, each [frames, 64, 44], in the same launches: [n, parts, dim].

        No frame is computed for padding. Raises as embed does, naming the sequence.
        """
        if not sequences:
            raise InputError("a batch holds 1 sequence or more, not 0")
        whole = [check_sequence(sequence, f"sequence {i}") for i, sequence in enumerate(sequences)]
        lengths = [len(sequence) for sequence in whole]
        frames = lengths[0] if len(set(lengths)) == 1 else 0
        return self._calls.embed(Batch(len(whole), frames, sum(lengths)), whole)

    def __enter__(self) -> CudaEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _batch(silhouettes: NDArray[np.uint8]) -> Batch:
    count, frames = silhouettes.shape[:2]
    return Batch(count, frames, count * frames)


class CudaFrames(_OnTheGpu):
    """The frame network: the first launch of two, or the launches of its layers."""

    def __init__(self, bundle: Bundle, target: Target, why: str) -> None:
        super().__init__(bundle, target, why, only_frames=True)

    def part_features(self, silhouettes: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Silhouettes [n, 64, 44] to part features [n, parts, C], a fresh array; in FP16's steps beside INT8.

        Raises SilhouetteError on another type or shape, MachineError where the GPU fails or its memory
        does not suffice. Calls from several threads run one after the other.
        """
        return self._calls.part_features(check_sequence(silhouettes, "silhouettes"))
