"""What a layer asks of its arguments, before it computes with them.

Each error says which argument it is, what it was and what is right.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np

from npnlp.backend import Array, Backend, Random
from npnlp.errors import InputError, short
from npnlp.layers.packing import Packing

#: Sizes of axes; None is any size. A first ``...`` stands for any number of axes.
Shape = tuple[Any, ...]
INT64 = np.dtype(np.int64)
INT64 = np.dtype(np.int64)
#: Types of indices; uint64 is none, since NumPy does not look up with it.
WHOLE = {np.dtype(kind) for kind in ("i1", "i2", "i4", "i8", "u1", "u2", "u4")}
FLOATS = {np.dtype(kind) for kind in ("f2", "f4", "f8", "g", "F", "D", "G")}
#: Subclasses of NumPy's array on which operators mean something else, by name: to import
#: ``numpy.ma`` takes a fifth of what the command does at its start.
STRANGE = {"matrix", "MaskedArray"}

Kind = TypeVar("Kind")


def require_array(
    name: str, array: Any, shape: Shape, dtype: np.dtype[Any], *, exact: bool = True
) -> None:
    """Raise :class:`InputError` unless ``array`` is one of this shape and of ``dtype``.

    Not ``exact``, any type of real or complex numbers will do; complex numbers may be real.
    """
    found = getattr(array, "dtype", None)
    of_type = type(array).__name__ not in STRANGE and not isinstance(array, np.generic)
    fits = of_type and isinstance(found, np.dtype) and _fits(array.shape, shape)
    if fits and (found == dtype or (found in FLOATS and (not exact or dtype.kind == "c"))):
        return
    wanted = f"{dtype if exact else 'real numbers'} of shape {_shown(shape)}"
    _require_type(name, array, wanted)
    if not fits:
        raise InputError(f"{name} is {_found(array)}; it has to be {wanted}")
    remedy = f"convert it, as {name.split()[0]}.astype({(dtype if exact else 'float32')!s})"
    raise InputError(f"{name} is {_found(array)}; it has to be {wanted}: {remedy}")


def require_indices(name: str, indices: Any, rows: int | None, size: int, backend: Backend) -> None:
    """Raise :class:`InputError` unless ``indices (rows,)`` are whole numbers in ``[0, size)``."""
    require_whole_numbers(name, indices, (rows,))
    if not backend.all_below(indices, size):
        host = backend.to_numpy(indices)
        place = int(np.flatnonzero((host < 0) | (host >= size))[0])
        raise InputError(
            f"{name}[{place}] is {host[place]}; it has to be at least 0 and below {size}"
        )


def require_whole_numbers(name: str, array: Any, shape: Shape) -> None:
    """Raise :class:`InputError` unless ``array`` holds whole numbers, and has this shape."""
    found = getattr(array, "dtype", None)
    if found == INT64 and type(array).__name__ not in STRANGE and _fits(array.shape, shape):
        return
    wanted = f"whole numbers (int64) of shape {_shown(shape)}"
    _require_type(name, array, wanted)
    if array.dtype not in WHOLE or not _fits(array.shape, shape):
        raise InputError(f"{name} is {_found(array)}; it has to be {wanted}")


def require_some(name: str, array: Array) -> None:
    """Raise :class:`InputError` where there is no number to take a mean of."""
    if not array.size:
        raise InputError(f"{name} has shape {array.shape}, and no number to take a mean of")


def require_number(name: str, value: Any) -> None:
    """Raise :class:`InputError` unless it is one number, or an array of one, without axes."""
    dtype = getattr(value, "dtype", np.dtype(object))
    of_array = getattr(value, "shape", None) == () and dtype.kind in "fciu"
    if isinstance(value, bool) or not (of_array or isinstance(value, int | float | complex)):
        raise InputError(f"{name} is {_found(value)}; it has to be one number, such as 1.0")


def number_like(value: Any, like: Array) -> Any:
    """``value``, one number, in the precision of ``like`` if it has one of its own."""
    return value.astype(like.dtype) if hasattr(value, "astype") else value


def require_random(random: Any) -> None:
    """Raise :class:`InputError` unless it is a stream of masks, or None."""
    if random is not None and not isinstance(random, Random):
        raise InputError(
            f"random is {_found(random)}; it has to be a stream, such as Random(0), or None"
        )


def require_packing(packing: Any) -> None:
    """Raise :class:`InputError` unless it is a :class:`Packing`."""
    if not isinstance(packing, Packing):
        raise InputError(
            f"packing is {_found(packing)}; it has to be a Packing: make one with Packing.of"
        )


def require_rows(data: Any, packing: Any, name: str = "x") -> None:
    """Raise :class:`InputError` where ``data`` does not have N rows."""
    require_packing(packing)
    shape = getattr(data, "shape", ())
    if shape and shape[0] != packing.rows:
        raise InputError(
            f"{name} has {shape[0]} rows for a packing of {packing.rows} rows; "
            f"pack it with pack_padded_sequence and these lengths"
        )


def require_outputs(dy: Any, count: int, least: int = 1) -> None:
    """Raise :class:`InputError` unless ``dy`` holds the gradients of up to ``count`` outputs."""
    if not isinstance(dy, tuple | list) or not least <= len(dy) <= count:
        found = f"{len(dy)} gradients" if isinstance(dy, tuple | list) else _found(dy)
        raise InputError(
            f"dy is {found}; it has to be a tuple of the gradients of {count} outputs, or None "
            f"where one was not used"
        )


def require_cache(cache: Any, kind: type[Kind]) -> None:
    """Raise :class:`InputError` unless ``cache`` is one of a layer of this sort."""
    if not isinstance(cache, kind):
        raise InputError(
            f"cache is {_found(cache)}; it has to be the {kind.__name__} that forward of this "
            f"layer returned"
        )


def _require_type(name: str, array: Any, wanted: str) -> None:
    """An array of a backend: it has a shape and a dtype of NumPy's, and no meaning of its own."""
    if not isinstance(getattr(array, "dtype", None), np.dtype) or isinstance(array, np.generic):
        remedy = f"a NumPy array of {wanted}" if not hasattr(array, "shape") else wanted
        raise InputError(f"{name} is {_found(array)}; it has to be {remedy}")
    if type(array).__name__ in STRANGE:
        raise InputError(
            f"{name} is a {type(array).__name__}; it has to be a plain array: use np.asarray"
        )


def _fits(found: tuple[int, ...], shape: Shape) -> bool:
    if found == shape:
        return True
    if shape[:1] == (...,):
        shape = shape[1:]
        found = found[len(found) - len(shape) :] if len(found) >= len(shape) else ()
    return len(found) == len(shape) and all(
        size in (None, here) for here, size in zip(found, shape, strict=True)
    )


def _shown(shape: Shape) -> str:
    names = {None: "N", ...: "..."}
    return f"({', '.join(str(names.get(size, size)) for size in shape)}{',' * (len(shape) == 1)})"


def _found(value: Any) -> str:
    """A value in a few words: an array by dtype and shape, all else by its type."""
    if hasattr(value, "dtype") and hasattr(value, "shape") and not isinstance(value, np.generic):
        return f"{value.dtype} of shape {tuple(value.shape)}"
    if value is None or isinstance(value, bool | int | float | complex | str | np.generic):
        return short(value)
    return f"a {type(value).__name__}"
