"""Choosing a backend by name."""

from __future__ import annotations

from npnlp.backend.base import Backend
from npnlp.backend.numpy_backend import NumpyBackend
from npnlp.errors import DeviceError, require_known

BACKEND_NAMES = ("numpy", "cupy", "auto")


def get_backend(name: str = "numpy") -> Backend:
    """The backend called ``name``: ``"numpy"``, ``"cupy"``, or ``"auto"``.

    ``auto`` takes CuPy where a computation on the device works and NumPy elsewhere; ``reason`` of
    the backend says which and why.

    Raises :class:`InputError` for another name and :class:`DeviceError` where ``"cupy"`` was asked
    for and is not to be had.
    """
    if name == "numpy":
        return NumpyBackend()
    require_known("backend", name, BACKEND_NAMES)
    from npnlp.backend.cupy_backend import CupyBackend  # importing CuPy takes a second: only here

    if name == "cupy":
        return CupyBackend()
    try:
        return CupyBackend(reason="auto chose cupy: a CUDA device answers")
    except DeviceError as error:
        why = str(error).removeprefix("backend cupy: ").split(";")[0]
        return NumpyBackend(reason=f"auto chose numpy: {why}")
