"""Choosing a backend by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from npnlp.backend.base import Backend
from npnlp.backend.numpy_backend import NumpyBackend, ReferenceBackend
from npnlp.backend.worth import COMPILING, LOADING
from npnlp.errors import DeviceError, require_known
from npnlp.optional import needs

if TYPE_CHECKING:
    from npnlp.backend.compiled.backend import CompiledBackend

BACKEND_NAMES = ("numpy", "cupy", "numba", "auto", "reference")


def get_backend(
    name: str = "numpy", saved: float = 0.0, cell: str = "elman", local_rank: int | None = None
) -> Backend:
    """The backend called ``name``, one of ``BACKEND_NAMES``.

    ``auto`` is CuPy where a computation on the device works; else Numba, where it is installed and
    would save more than its start takes; else NumPy. ``saved`` are the seconds that it would save
    with this ``cell`` (:func:`npnlp.backend.worth.seconds_saved`). The backend's ``reason`` says
    which and why. ``reference`` is NumPy with only the reference code, such as the loop over
    time in ``layers/recurrent/``, and slower. Of several processes on a machine each gives its
    ``local_rank``, and takes the device of that number; see :class:`CupyBackend`.

    Raises :class:`InputError` for another name and :class:`DeviceError` where ``"cupy"`` or
    ``"numba"`` does not work.
    """
    if name == "numpy":
        return NumpyBackend()
    if name == "reference":
        return ReferenceBackend()
    require_known("backend", name, BACKEND_NAMES)
    if name == "numba":
        return _numba()
    from npnlp.backend.cuda.backend import CupyBackend  # importing CuPy takes a second: only here

    if name == "cupy":
        return CupyBackend(local_rank=local_rank)
    try:
        return CupyBackend("auto chose cupy: a CUDA device answers", local_rank=local_rank)
    except DeviceError as error:
        why = str(error).removeprefix("backend cupy: ").split(";")[0]
        return _numba_where_worth(saved, cell, why)


def as_backend(given: Backend | str | None) -> Backend:
    """``given``, or the backend of that name; NumPy for None."""
    return given if isinstance(given, Backend) else get_backend(given or "numpy")


def _numba(reason: str = "") -> CompiledBackend:
    fix = "numba scipy, or use --backend numpy"
    with needs("backend numba", "numba", "scipy", fix=fix, kind=DeviceError):
        from npnlp.backend.compiled.backend import CompiledBackend  # a second, as above
    return CompiledBackend(reason)


def _numba_where_worth(saved: float, cell: str, why: str) -> Backend:
    """Numba or NumPy, instead of CuPy; ``why`` not that."""
    if saved > LOADING:
        try:
            backend = _numba()
        except DeviceError:
            return NumpyBackend(reason=f"auto chose numpy: {why}")
        cost = LOADING if backend.is_compiled(cell) else COMPILING
        if saved > cost:
            backend.reason = f"auto chose numba: it saves some {saved:.0f} s and starts in {cost:g}"
            return backend
        why = f"numba would save some {saved:.0f} s, and compiling takes {cost:g}"
    return NumpyBackend(reason=f"auto chose numpy: {why}")
