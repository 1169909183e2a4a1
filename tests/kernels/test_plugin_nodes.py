"""The nodes that the exporter writes, through the plugins: the whole network as TensorRT would run it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from graphs import reference, relative_error
from host_build import Host, Output, aligned
from networks import random_silhouettes, random_weights
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from plugin_drivers import ATTRIBUTES, Driver, interface_name, interfaces, open_driver, tensor

from gaitedge.config import GaitPartConfig
from gaitedge.export.graph import Plan, build_graph, without_functions

SMALL = GaitPartConfig(channels=(4, 8, 16), strips=(1, 2, 4, 3, 8, 8), parts=5, embedding_dim=12)


@pytest.fixture(scope="module", params=interfaces(), ids=interface_name)
def driver(request: pytest.FixtureRequest, host: Host) -> Driver:
    return open_driver(request.param, host.path)


def through_plugins(driver: Driver, domain: str) -> list[type[OpRun]]:
    """What ONNX' reference evaluator needs to compute our nodes by the plugins."""

    def operator(name: str) -> type[OpRun]:
        def compute(self: OpRun, *arrays: Any, **attributes: Any) -> tuple[Any]:
            assert (attributes.pop("plugin_namespace"), attributes.pop("plugin_version")) == ("gaitedge", "1")
            plugin = driver.create(name, **attributes)
            inputs = [tensor(array.shape, array.dtype.type) for array in arrays]
            out = plugin.output(inputs)
            assert out is not None, driver.log()
            assert plugin.supports_all([*inputs, out])
            result = Output(out.shape, [np.float32, np.float16][out.type])
            status = plugin.enqueue(inputs, out, [aligned(array) for array in arrays], result.array)
            assert status == 0, driver.log()
            plugin.destroy()
            return (np.array(result.check()),)

        return type(name, (OpRun,), {"op_domain": domain, "_run": compute})

    return [operator(name) for name in ATTRIBUTES]


@pytest.mark.parametrize(
    ("config", "plan", "nodes"),
    [
        (SMALL, Plan("plugin", "plugin", "fp32"), 8),
        (SMALL, Plan("plugin", "plugin", "fp16"), 8),
        (GaitPartConfig(), Plan("network", "plugin", "fp16"), 2),
    ],
    ids=["fp32", "fp16", "network"],
)
def test_an_exported_network_runs(driver: Driver, config: GaitPartConfig, plan: Plan, nodes: int) -> None:
    weights, silhouettes = random_weights(config, 0), random_silhouettes(1, 3, 0)
    model = without_functions(build_graph(config, weights, plan))
    domains = {node.domain for node in model.graph.node if node.op_type in ATTRIBUTES}
    assert sum(node.op_type in ATTRIBUTES for node in model.graph.node) == nodes
    assert len(domains) == 1
    onnx.checker.check_model(model)
    evaluator = ReferenceEvaluator(model, new_ops=through_plugins(driver, domains.pop()))
    (found,) = evaluator.run(None, {"silhouettes": silhouettes})
    expected = reference(config, weights, silhouettes)
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    assert relative_error(found, expected) < (1e-5 if plan.precision == "fp32" else 5e-3)
