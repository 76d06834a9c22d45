"""Arrays on the stand-in's device, which compute as NumPy's do.

While a stream is captured nothing counts: every operation is written down instead, and done when
the graph is launched. What it is done with are addresses: memory that has come to hold something
else by then shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tests.support.device.memory import DeviceMemory, Memory, MemoryPointer

#: ``setStream`` in ``cupy_backends/cuda/libs/cublas.pyx``.
CUBLAS = "calling cuBLAS API during stream capture is currently unsupported"
#: ``copy_from_host_async`` and ``copy_to_host_async`` in ``cupy/cuda/memory.pyx``.
COPY_IN = "the current stream is capturing, so H2D transfers are disallowed"
COPY_OUT = "the current stream is capturing, so D2H transfers are disallowed"


class Forbidden(RuntimeError):
    """Something that a capture does not allow."""


class Device:
    """What all arrays, kernels and streams of a stand-in share."""

    def __init__(self) -> None:
        self.memory = DeviceMemory()
        self.tape: list[Callable[[], Any]] | None = None
        self.touched: set[Memory] = set()  # by the work that is captured
        self.allocator: Any = None  # another than the default one
        self.default: Any = None
        #: What the host did: numbers read, arrays copied to and from the device.
        self.reads: list[str] = []
        self.uploads = 0
        self.graphs = self.launches = 0

    def host(self, what: str) -> None:
        """The host looks at the device, and so waits for it."""
        self.refuse(COPY_OUT)
        self.reads.append(what)

    def upload(self) -> None:
        """The host copies to the device."""
        self.refuse(COPY_IN)
        self.uploads += 1

    def refuse(self, what: str) -> None:
        """What is never allowed in a capture."""
        if self.tape is not None:
            raise Forbidden(what)

    def do(self, call: Callable[[], Any]) -> None:
        """Something that writes to arrays that are there."""
        if self.tape is None:
            call()
        else:
            self.tape.append(call)

    def make(self, call: Callable[[], Any], inputs: Any = (), fills: bool = True) -> Any:
        """Something that makes an array, unless it is a view of what was given."""
        # In a capture the result counts for its shape alone: what it is made of is not there yet.
        with np.errstate() if self.tape is None else np.errstate(all="ignore"):
            result = call()
        if isinstance(result, tuple):
            raise TypeError("several results are not supported")
        result = np.asarray(result)
        for array in inputs:
            if np.may_share_memory(result, array.view(np.ndarray)):
                return self.wrap(result, array.pointer)
        if self.tape is not None and self.allocator is None:
            # CuPy allows it; but then others may use the memory while the graph is launched.
            raise Forbidden("memory from outside of the graphs' pool")
        pointer = (self.allocator or self.default)(result.nbytes)
        strides = np.empty_like(result).strides
        place = pointer.array(result.shape, result.dtype, strides)
        if fills or self.tape is not None:
            place[...] = result
        if self.tape is not None:
            self.touched.add(pointer.memory)
            if fills:
                self.tape.append(lambda: np.copyto(place, call()))
        return self.wrap(place, pointer)

    def wrap(self, plain: Any, pointer: MemoryPointer) -> DeviceArray:
        array: Any = plain.view(DeviceArray)
        array.on, array.pointer = self, pointer
        return array  # type: ignore[no-any-return]


def opened(value: Any) -> Any:
    """What NumPy may see: the address without the memory's life; an array of the host is refused.

    CuPy refuses it, too.
    """
    if isinstance(value, DeviceArray):
        return value.address()
    if isinstance(value, np.ndarray):
        raise TypeError("an array of the host among those of the device")
    if isinstance(value, tuple | list):
        return type(value)(opened(item) for item in value)
    return value


def arrays_in(*values: Any) -> list[Any]:
    found: list[Any] = []
    for value in values:
        if isinstance(value, tuple | list):
            found += arrays_in(*value)
        elif isinstance(value, np.ndarray):
            found.append(value)
    return found


class DeviceArray(np.ndarray):
    """An array on the stand-in's device."""

    on: Device
    pointer: MemoryPointer

    def __array_finalize__(self, source: Any) -> None:
        if source is not None and hasattr(source, "on"):
            self.on, self.pointer = source.on, source.pointer

    def address(self) -> Any:
        """The same numbers, without a hold on their memory."""
        if not self.size:
            return np.empty(self.shape, self.dtype)
        memory = self.pointer.memory
        assert not memory.freed
        if self.on.tape is not None:
            self.on.touched.add(memory)
        offset = self.__array_interface__["data"][0] - memory.address
        assert 0 <= offset < memory.size, "an array that is not on the device"
        return np.ndarray(self.shape, self.dtype, memory.storage, offset, self.strides)

    def __array_ufunc__(self, ufunc: Any, method: Any, *inputs: Any, **kwargs: Any) -> Any:
        out = kwargs.pop("out", None)
        plain = opened(inputs)
        call = getattr(ufunc, method)
        device: Device = next(a for a in arrays_in(inputs, out) if hasattr(a, "on")).on
        if ufunc is np.matmul:
            ask_cublas(device, *inputs)
        if out is None:
            return device.make(lambda: call(*plain, **kwargs))
        target = opened(out)
        device.do(lambda: call(*plain, out=target, **kwargs))
        return out[0]

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        raise TypeError(f"numpy.{function.__name__} of an array on a device; use backend.xp")

    def __getitem__(self, key: Any) -> Any:
        plain, place = opened(self), opened(key)
        if arrays := arrays_in(key):
            if any(array.dtype == bool for array in arrays):
                self.on.host("the size of a mask")  # cupy/_core/_routines_indexing.pyx
            return self.on.make(lambda: plain[place])
        whole = place if isinstance(place, tuple) else (place,)
        if any(isinstance(part, list) for part in whole):
            self.on.upload()
            return self.on.make(lambda: plain[place])
        found = plain[whole if Ellipsis in whole else (*whole, ...)]
        return self.on.wrap(found, self.pointer)

    def __setitem__(self, key: Any, value: Any) -> None:
        plain, place, given = opened(self), opened(key), opened(value)
        if isinstance(value, DeviceArray) and not arrays_in(key) and self._holds(key, given):
            return
        self.on.do(lambda: plain.__setitem__(place, given))

    def _holds(self, key: Any, given: Any) -> bool:
        """``a[key] = a[key]``, as ``a[key] += b`` ends: CuPy copies nothing then.

        See ``_scatter_op`` in ``cupy/_core/_routines_indexing.pyx``.
        """
        to = opened(self[key])
        return bool(
            to.ctypes.data == given.ctypes.data
            and (to.shape, to.strides) == (given.shape, given.strides)
        )

    def fill(self, value: Any) -> None:
        self[...] = value

    def reshape(self, *shape: Any, **options: Any) -> Any:
        plain = opened(self)
        return self.on.make(lambda: plain.reshape(*shape, **options), [self])

    def ravel(self, *order: Any, **options: Any) -> Any:
        plain = opened(self)
        return self.on.make(lambda: plain.ravel(*order, **options), [self])

    def __float__(self) -> float:
        self.on.host("float")
        return float(opened(self))

    def __int__(self) -> int:
        self.on.host("int")
        return int(opened(self))

    def __bool__(self) -> bool:
        self.on.host("bool")
        return bool(opened(self))

    def item(self, *place: Any) -> Any:
        self.on.host("item")
        return opened(self).item(*place)

    def tolist(self) -> Any:
        self.on.host("tolist")
        return opened(self).tolist()

    def __array__(self, *arguments: Any, **keywords: Any) -> Any:
        raise TypeError("an array on a device does not become one of the host")

    def __iter__(self) -> Iterator[Any]:
        return (self[place] for place in range(len(self)))


def ask_cublas(device: Device, a: Any, b: Any) -> None:
    """A product. CuPy asks cuBLAS for none of a row and a column, which is a sum of products.

    See ``tensordot_core`` in ``cupy/_core/_routines_linalg.pyx``.
    """
    rows = a.shape[-2] if a.ndim > 1 else 1
    columns = b.shape[-1] if b.ndim > 1 else 1
    if max(rows, columns, a.ndim - 1, b.ndim - 1) > 1 and device.tape is not None:
        raise NotImplementedError(CUBLAS)


def _method(name: str) -> Callable[..., Any]:
    def method(self: DeviceArray, *arguments: Any, **options: Any) -> Any:
        plain, given = opened(self), opened(arguments)
        named = {key: opened(value) for key, value in options.items()}
        return self.on.make(lambda: getattr(plain, name)(*given, **named))

    return method


for _name in (
    "take", "sum", "max", "min", "mean", "prod", "argmax", "argmin", "argsort", "astype", "copy",
    "flatten", "repeat", "cumsum", "clip", "any", "all",
):  # fmt: skip
    setattr(DeviceArray, _name, _method(_name))
