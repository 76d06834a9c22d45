"""What differs between NumPy and CuPy, and nothing else.

A :class:`Backend` is passed to every layer; there is no global choice, so one process can hold
both. Only this folder imports CuPy.
"""

from npnlp.backend.base import Array, Backend
from npnlp.backend.random import Random
from npnlp.backend.select import BACKEND_NAMES, get_backend

__all__ = ["BACKEND_NAMES", "Array", "Backend", "Random", "get_backend"]
