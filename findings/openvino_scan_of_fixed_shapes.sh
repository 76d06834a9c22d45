#!/usr/bin/env bash
# OpenVINO 2026.4.1 on a CPU: an ONNX Scan whose step ends in Tanh or Relu has wrong results, without a word, once the
# shapes of the inputs are fixed; with dynamic shapes the same model is right.
#
# The step is h = f(x_t + h W + b), a recurrent cell written out; its state and its output are the same value, as
# exporters write it. One step is right. Where f ends in another operator (Where, Mul, Add), fixed shapes are right, too.
#
# So whoever exports a cell of their own as a Scan, and calls reshape() as is advised for speed, may ship other answers
# than those that were tested with dynamic shapes.
#
# Seen: the largest difference from NumPy is below 1e-06 with dynamic shapes, and 1.9 (Tanh) and 5.1 (Relu) with fixed ones.
# Fails where fixed shapes are right, or dynamic ones are not.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet openvino==2026.4.1 onnx==1.23.2 numpy==2.4.6
"$work/venv/bin/python" - <<'END'
import numpy as np
import openvino
from onnx import TensorProto, helper, numpy_helper

STEPS, BATCH, SIZE = 6, 5, 16
random = np.random.default_rng(0)
weight = 0.3 * random.normal(size=(SIZE, SIZE)).astype(np.float32)
bias = random.normal(size=SIZE).astype(np.float32)
x = random.normal(size=(STEPS, BATCH, SIZE)).astype(np.float32)
state = np.zeros((BATCH, SIZE), dtype=np.float32)


def value(name, *shape):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def model(last):
    nodes = [
        helper.make_node("MatMul", ["h", "W"], ["p"]),
        helper.make_node("Add", ["p", "b"], ["q"]),
        helper.make_node("Add", ["x", "q"], ["a"]),
        helper.make_node(last, ["a"], ["h_next"]),
        helper.make_node("Identity", ["h_next"], ["y"]),
    ]
    constants = [numpy_helper.from_array(weight, "W"), numpy_helper.from_array(bias, "b")]
    body = helper.make_graph(
        nodes, "step", [value("h", None, SIZE), value("x", None, SIZE)],
        [value("h_next", None, SIZE), value("y", None, SIZE)], constants,
    )
    scan = helper.make_node("Scan", ["h0", "xs"], ["h_last", "ys"], body=body, num_scan_inputs=1)
    graph = helper.make_graph(
        [scan], "scan", [value("h0", "B", SIZE), value("xs", "T", "B", SIZE)], [value("ys", "T", "B", SIZE)]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


for last, function in {"Tanh": np.tanh, "Relu": lambda a: np.maximum(a, 0)}.items():
    h, expected = state, []
    for step in x:
        h = function(step + h @ weight + bias)
        expected.append(h)
    apart = {}
    for fixed in (False, True):
        core = openvino.Core()
        read = core.read_model(model(last).SerializeToString())
        if fixed:
            read.reshape({"h0": [BATCH, SIZE], "xs": [STEPS, BATCH, SIZE]})
        compiled = core.compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        apart[fixed] = float(np.abs(compiled({"h0": state, "xs": x})[0] - np.stack(expected)).max())
    print(f"{last}: {apart[False]:.1e} with dynamic shapes, {apart[True]:.1e} with fixed ones")
    assert apart[False] < 1e-5 < 0.1 < apart[True], apart
END
