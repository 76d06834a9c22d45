"""Exchange with PyTorch and ONNX, and comparisons of the results.

PyTorch, onnx and onnxruntime are imported in one file each (``torch_model.py``, ``onnx_graph.py``,
``onnx_run.py``); :func:`npnlp.optional.needs` turns a missing or broken package into an error with
the remedy. State dicts are read and written without PyTorch.
"""

from npnlp.exchange.layouts import LAYOUTS
from npnlp.exchange.state_dict import Choices, read_state_dict, write_state_dict

__all__ = ["LAYOUTS", "Choices", "read_state_dict", "write_state_dict"]
