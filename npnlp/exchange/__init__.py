"""Exchange with other programs: PyTorch's state dicts, ONNX, and proofs that nothing was lost.

PyTorch, onnx and onnxruntime are imported by three files of this folder and by no other
(``torch_model.py``, ``onnx_graph.py``, ``onnx_run.py``); :func:`npnlp.exchange.peers.needs` turns
one that is missing into a line with the remedy. State dicts are read and written without PyTorch.
"""

from npnlp.exchange.layouts import LAYOUTS
from npnlp.exchange.peers import needs
from npnlp.exchange.state_dict import Choices, read_state_dict, write_state_dict

__all__ = ["LAYOUTS", "Choices", "needs", "read_state_dict", "write_state_dict"]
