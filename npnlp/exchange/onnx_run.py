"""Running an ONNX file. Only this file imports onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from npnlp.errors import InputError

VERSION = f"onnxruntime {onnxruntime.__version__}"


def onnx_logits(
    model: str | Path | bytes, tokens: NDArray[np.int64], lengths: NDArray[np.int64]
) -> NDArray[Any]:
    """Logits ``(B, C)`` of padded ``tokens (B, T)``, from a file or the content of one.

    Raises :class:`InputError` for a file that onnxruntime refuses, or with other inputs.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are raised, not printed
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    source = model if isinstance(model, bytes) else str(model)
    name = "the model" if isinstance(source, bytes) else source
    try:
        session = onnxruntime.InferenceSession(source, options, ["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no other class in common
        raise InputError(f"{name}: not an ONNX model that runs: {error}") from error
    inputs = {each.name for each in session.get_inputs()}
    if inputs != {"tokens", "lengths"} or session.get_outputs()[0].name != "logits":
        raise InputError(
            f"{name}: its inputs are {sorted(inputs)}, not tokens and lengths, or its output is "
            "not logits; npnlp export --format onnx writes such a file"
        )
    try:
        (logits,) = session.run(["logits"], {"tokens": tokens, "lengths": lengths})
    except Exception as error:
        raise InputError(f"{name}: does not run on these names: {error}") from error
    return np.asarray(logits)
