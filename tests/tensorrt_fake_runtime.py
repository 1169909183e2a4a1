"""The half of tests/tensorrt_fake.py that has plans: the runtime that loads them, and the inspector."""

from __future__ import annotations

import json
from typing import Any

from tensorrt_fake_engine import add_engine

_KIND = "Format/Datatype"


def add_runtime(trt: Any, recorded: Any, major: int) -> None:
    class EngineInspector:
        def __init__(self) -> None:
            self.execution_context: Any = None

        def get_engine_information(self, format: Any) -> str:  # noqa: A002
            assert format is trt.LayerInformationFormat.JSON
            known = self.execution_context is not None and self.execution_context.shapes
            tensors = (
                {"I/O Tensors": [{"Name": "silhouettes"}]}
                if major >= 11
                else {"Bindings": ["silhouettes", "embeddings"]}
            )
            layers = [_told(layer, major, bool(known)) for layer in recorded.layers]
            # TensorRT puts control characters between the parts of a name, and does not escape them.
            return json.dumps({"Layers": layers, **tensors}).replace("\\u001e", "\x1e")

    class Runtime:
        def __init__(self, logger: Any) -> None:
            recorded.calls.append("Runtime")
            self.logger = recorded.logger = logger
            self.engine_host_code_allowed = False

        def deserialize_cuda_engine(self, serialized_engine: bytes) -> Any:
            try:
                plan = json.loads(serialized_engine)
            except ValueError:
                self.logger.log(trt.ILogger.Severity.ERROR, "magicTag == kPLAN_MAGIC_TAG failed")
                return None
            if "VERSION_COMPATIBLE" in plan["flags"] and not self.engine_host_code_allowed:
                self.logger.log(trt.ILogger.Severity.ERROR, "the plan holds host code, which is not allowed")
                return None
            return trt.ICudaEngine(plan, self.logger)

    trt.Runtime, trt.EngineInspector = Runtime, EngineInspector
    add_engine(trt, recorded, major)


def _told(layer: dict[str, Any], major: int, shapes_known: bool) -> dict[str, Any]:
    """A layer as the inspector of this version tells it; layers are written as those of 10."""
    told = dict(layer)
    for side in ("Inputs", "Outputs"):
        told[side] = []
        for tensor in layer[side]:
            kind = tensor[_KIND] if shapes_known or major >= 10 else "N/A due to dynamic shapes"
            rest = {key: value for key, value in tensor.items() if key != _KIND}
            what = {_KIND: kind} if major < 11 else {"Format": "Linear", "DataType": kind}
            told[side].append({**rest, **what})
    return told
