"""The ``cupy`` module: the functions of NumPy, on arrays of a device."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from tests.support.device.arrays import (
    CUBLAS,
    Device,
    DeviceArray,
    arrays_in,
    ask_cublas,
    opened,
)
from tests.support.device.cuda import Cuda

#: ``_concatenate`` in ``cupy/_core/_routines_manipulation.pyx``: more arrays than these, of one
#: dtype and on average smaller than this, are joined by a table of addresses from the host.
JOINED, LARGE = 8, 2 * 2**20
#: Functions whose result has a size that only the device knows: CuPy reads it (``_ndarray_nonzero``
#: in ``cupy/_core/_routines_indexing.pyx``). ``where`` of a condition alone is one of them.
READING = {"nonzero", "flatnonzero", "argwhere", "unique", "compress", "extract", "union1d"}
#: Functions that end in a product (``cupy/linalg/_product.py``, ``_einsum.py``).
MULTIPLYING = {"tensordot", "inner", "einsum"}


class FakeCupy:
    """The ``cupy`` module."""

    ndarray = DeviceArray

    def __init__(self) -> None:
        self.device = Device()
        self.cuda = Cuda(self.device)

    def get_default_memory_pool(self) -> Any:
        return self.cuda.default

    def asarray(self, host: Any, dtype: Any = None) -> Any:
        if isinstance(host, DeviceArray):
            return host if dtype is None or host.dtype == dtype else host.astype(dtype)
        self.device.upload()
        return self.device.make(lambda: np.array(host, dtype=dtype))

    array = asarray

    def asnumpy(self, array: Any) -> Any:
        self.device.host("asnumpy")
        return opened(array).copy()

    def empty(self, shape: Any, dtype: Any = float) -> Any:
        return self.device.make(lambda: np.zeros(shape, dtype), fills=False)

    def empty_like(self, array: Any) -> Any:
        return self.empty(array.shape, array.dtype)

    def dot(self, a: Any, b: Any, out: Any = None) -> Any:
        ask_cublas(self.device, a, b)
        one, other = opened(a), opened(b)
        if out is None:
            return self.device.make(lambda: np.dot(one, other))
        # As ``tensordot_core`` in ``cupy/_core/_routines_linalg.pyx`` asserts.
        assert out.flags.c_contiguous, "a product into an array that is not contiguous"
        assert out.dtype == np.result_type(a, b), "a product into an array of another dtype"
        target = opened(out)
        self.device.do(lambda: np.dot(one, other, out=target))
        return out

    def stack(self, arrays: Sequence[Any], axis: int = 0) -> Any:
        return self._joined(np.stack, arrays, axis)

    def concatenate(self, arrays: Sequence[Any], axis: int = 0) -> Any:
        return self._joined(np.concatenate, arrays, axis)

    def _joined(self, join: Any, arrays: Sequence[Any], axis: int) -> Any:
        size = sum(array.nbytes for array in arrays)
        same = len({array.dtype for array in arrays}) == 1
        if len(arrays) > JOINED and same and size < LARGE * len(arrays):
            self.device.upload()
        plain = opened(list(arrays))
        return self.device.make(lambda: join(plain, axis=axis))

    def _read(self, found: Any) -> Any:
        if isinstance(found, tuple):
            return tuple(map(self._read, found))
        return self.device.make(partial(np.copy, found))

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(np, name)
        if isinstance(attribute, type | np.ufunc) or not callable(attribute):
            return attribute

        def function(*arguments: Any, **options: Any) -> Any:
            if name in READING or (name == "where" and len(arguments) == 1):
                self.device.host(name)
                return self._read(attribute(*opened(arguments), **options))
            if name in MULTIPLYING and self.device.tape is not None:
                raise NotImplementedError(CUBLAS)
            plain, named = opened(arguments), {k: opened(v) for k, v in options.items()}
            inputs = arrays_in(arguments)
            return self.device.make(lambda: attribute(*plain, **named), inputs)

        return function
