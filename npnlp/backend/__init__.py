"""Backends: where arrays are stored, and the code that computes with them.

A :class:`Backend` is passed to every layer; there is no global choice, so one process can use
several. Only this folder imports CuPy and Numba.
"""

from npnlp.backend.base import Array, Backend
from npnlp.backend.random import Random
from npnlp.backend.select import BACKEND_NAMES, as_backend, get_backend

__all__ = ["BACKEND_NAMES", "Array", "Backend", "Random", "as_backend", "get_backend"]
