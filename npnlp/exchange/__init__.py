"""Exchange with PyTorch, Keras, Flax and ONNX, and comparisons of the results.

PyTorch, onnx, onnxruntime and h5py are imported in one file each (``torch_model.py``,
``onnx_graph.py``, ``onnx_run.py``, ``frameworks/hdf5.py``); :func:`npnlp.optional.needs` turns a
missing or broken package into an error with the remedy. State dicts are read and written without
PyTorch, and models of Keras and Flax without these.
"""

from npnlp.exchange.choices import Choices
from npnlp.exchange.foreign import read_model, write_model
from npnlp.exchange.layouts import LAYOUTS
from npnlp.exchange.state_dict import read_state_dict, write_state_dict

__all__ = ["LAYOUTS", "Choices", "read_model", "read_state_dict", "write_model",
           "write_state_dict"]  # fmt: skip
