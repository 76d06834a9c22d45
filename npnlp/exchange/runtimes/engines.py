"""How each runtime loads and runs an ONNX file with inputs ``tokens`` and ``lengths``.

An engine is given its package and the path of the file, and returns a function of tokens ``(B,
T)`` and lengths ``(B,)``, both int64, to the probabilities ``(B, C)``.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Tokens = NDArray[np.int64]
Run = Callable[[Tokens, Tokens], Any]
OUTPUT = "probabilities"


class Engine(NamedTuple):
    """``run`` is given what is imported as ``module``, of ``package`` as pip names it."""

    package: str
    module: str
    run: Callable[[Any, str], Run]

    def load(self, path: str) -> Run:
        """Import the package and load the file."""
        return self.run(import_module(self.module), path)


def _onnxruntime(onnxruntime: Any, path: str) -> Run:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
    return lambda tokens, lengths: session.run([OUTPUT], {"tokens": tokens, "lengths": lengths})[0]


def _reference(reference: Any, path: str) -> Run:
    made = reference.ReferenceEvaluator(path)
    return lambda tokens, lengths: made.run([OUTPUT], {"tokens": tokens, "lengths": lengths})[0]


def _openvino(openvino: Any, path: str) -> Run:
    """One model for all batches, in float32 also where the processor has a shorter type."""
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(path), "CPU", _IN_FULL)
    return lambda tokens, lengths: compiled({"tokens": tokens, "lengths": lengths})[
        compiled.output(OUTPUT)
    ]


def _openvino_fixed(openvino: Any, path: str) -> Run:
    """A model of its own for the shapes of each batch."""
    core = openvino.Core()

    def run(tokens: Tokens, lengths: Tokens) -> Any:
        model = core.read_model(path)
        model.reshape({"tokens": tokens.shape, "lengths": lengths.shape})
        compiled = core.compile_model(model, "CPU", _IN_FULL)
        return compiled({"tokens": tokens, "lengths": lengths})[compiled.output(OUTPUT)]

    return run


_IN_FULL = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}


def _tract(tract: Any, path: str) -> Run:
    """tract wants the shapes before it reads the recurrence."""

    def run(tokens: Tokens, lengths: Tokens) -> Any:
        model = tract.onnx().load(path)
        model.set_input_fact(0, f"{tokens.shape[0]},{tokens.shape[1]},i64")
        model.set_input_fact(1, f"{lengths.shape[0]},i64")
        return model.into_model().into_runnable().run([tokens, lengths])[1].to_numpy()

    return run


def _mnn(mnn: Any, path: str) -> Run:
    """Through MNN's converter, beside the file; its integers have 32 bits."""
    converted = f"{path}.mnn"
    arguments = ["-f", "ONNX", "--modelFile", path, "--MNNModel", converted, "--bizCode", "npnlp"]
    done = subprocess.run(
        [sys.executable, "-m", "MNN.tools.mnnconvert", *arguments],
        cwd=Path(path).parent, capture_output=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"its converter ends with status {done.returncode}")
    net = mnn.nn.load_module_from_file(converted, ["tokens", "lengths"], [OUTPUT])

    def placed(array: Tokens) -> Any:
        value = mnn.expr.placeholder(array.shape, mnn.expr.NCHW, mnn.expr.int)
        value.write(array.astype(np.int32))
        return value

    def run(tokens: Tokens, lengths: Tokens) -> Any:
        found = net.forward([placed(tokens), placed(lengths)])
        return (found if isinstance(found, mnn.expr.Var) else found[0]).read()

    return run


#: By name. What is installed under ``package`` runs in this interpreter.
ENGINES = {
    "onnxruntime": Engine("onnxruntime", "onnxruntime", _onnxruntime),
    "onnx.reference": Engine("onnx", "onnx.reference", _reference),
    "openvino": Engine("openvino", "openvino", _openvino),
    "openvino-fixed": Engine("openvino", "openvino", _openvino_fixed),
    "tract": Engine("tract", "tract", _tract),
    "mnn": Engine("mnn", "MNN", _mnn),
}
