"""Building a graph of ONNX operators. Only this file imports onnx."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from npnlp.version import __version__

#: The operators and the file version of ONNX 1.12 (2022), the first with LayerNormalization.
OPSET, IR_VERSION = 17, 8
INTEGERS, FLOATS = TensorProto.INT64, TensorProto.FLOAT
INT32 = TensorProto.INT32


class Graph:
    """Nodes and constants; every value is identified by its name, which begins with ``prefix``."""

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}

    def constant(self, value: Any, name: str = "") -> str:
        """The name of a stored array; each name is stored once.

        A Python int is stored as int64, a float as float32.
        """
        array = np.asarray(value, dtype=np.float32 if type(value) is float else None, order="C")
        name = (
            self.prefix + name
            if name
            else f"{self.prefix}constant_{array.dtype}_{array.tolist()}".replace(" ", "")
        )
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(array, name)
        return name

    def integers(self, *values: int) -> str:
        """A constant ``(len(values),)``, for axes and shapes."""
        return self.constant(np.array(values, dtype=np.int64))

    def add(self, operator: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """Add a node; returns the name of its output, or a list of names for several outputs."""
        name = f"{self.prefix}{operator}_{len(self.nodes)}"
        names = [name] if outputs == 1 else [f"{name}_{place}" for place in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), names, name, **attributes))
        return names[0] if outputs == 1 else names

    def size(self, x: str, axis: int) -> str:
        """The size of an axis ``(1,)``."""
        return str(self.add("Gather", self.add("Shape", x), self.integers(axis), axis=0))

    def beside(self, parts: Sequence[str], axis: int) -> str:
        """The parts side by side; one alone as it is."""
        return str(self.add("Concat", *parts, axis=axis)) if len(parts) > 1 else parts[0]

    def linear(self, x: str, weight: NDArray[Any], bias: NDArray[Any], name: str) -> str:
        """``x W^T + b`` over the last axis."""
        product = self.add("MatMul", x, self.constant(weight.T, f"{name}.weight_t"))
        return str(self.add("Add", product, self.constant(bias, f"{name}.bias")))

    def scan(
        self, x: str, state: str, step: Callable[[Graph, str, str], str], size: int, name: str
    ) -> str:
        """All states ``(T, B, H)`` of ``h_t = step(x_t, h_{t-1})`` from ``state (B, H)``.

        ``step`` adds nodes to the graph that it is given, and returns the name of the state.
        """
        body = Graph(f"{self.prefix}{name}.")
        h_before, x_now = f"{body.prefix}h", f"{body.prefix}x"
        h = step(body, x_now, h_before)

        def value(name: str, size: int | None) -> Any:
            return helper.make_tensor_value_info(name, FLOATS, (None, size))

        inputs = [value(h_before, size), value(x_now, None)]
        outputs = [value(h, size), value(body.add("Identity", h), size)]
        constants = list(body.constants.values())
        made = helper.make_graph(body.nodes, name, inputs, outputs, constants)
        return str(self.add("Scan", state, x, outputs=2, body=made, num_scan_inputs=1)[1])

    def model(
        self,
        name: str,
        inputs: Mapping[str, tuple[int, tuple[str | int, ...]]],
        outputs: Mapping[str, tuple[str, tuple[str | int, ...]]],
        metadata: Mapping[str, str],
        description: str,
    ) -> bytes:
        """The content of an ONNX file, checked by onnx; the same graph gives the same bytes.

        ``inputs`` are an element type and a shape by name; ``outputs`` are a value of the graph and
        its shape by the name that it gets in the file.
        """
        for output, (value, _) in outputs.items():
            self._rename(value, output)
        graph = helper.make_graph(
            self.nodes,
            name,
            [helper.make_tensor_value_info(k, kind, of) for k, (kind, of) in inputs.items()],
            [helper.make_tensor_value_info(k, FLOATS, shape) for k, (_, shape) in outputs.items()],
            list(self.constants.values()),
        )
        made = helper.make_model(
            graph,
            producer_name="npnlp",
            producer_version=__version__,
            doc_string=description,
            ir_version=IR_VERSION,
            opset_imports=[helper.make_opsetid("", OPSET)],
        )
        helper.set_model_props(made, dict(metadata))
        onnx.checker.check_model(made, full_check=True)
        content: bytes = made.SerializeToString(deterministic=True)
        return content

    def _rename(self, value: str, name: str) -> None:
        """Call a value by another name: a node that copies it is refused by some converters."""
        for node in self.nodes:
            for values in (node.input, node.output):
                values[:] = [name if each == value else each for each in values]
