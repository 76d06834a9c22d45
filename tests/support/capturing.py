"""A stand-in for CuPy that captures: what CUDA forbids in a capture it refuses, and it replays.

Arrays compute as NumPy's do. While a stream is captured nothing of it counts: every operation and
every launch of a kernel is written down instead, with its arguments, and done when the graph is
launched. Refused in a capture, as CuPy and CUDA refuse it: reading a number on the host, copying
from the host, cuBLAS, waiting for the device, and memory from another allocator than the one that
was put in place for it. Before each launch what the graph computes is filled with NaN, and
whole numbers with one that is no index, so that what it did not compute itself shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest import mock

import numpy as np

from npnlp.backend.cuda import recurrence
from npnlp.backend.cuda.backend import CupyBackend
from npnlp.backend.cuda.products import Namespace
from tests.backend.cuda.test_kernels_recurrence import ShimDevice
from tests.support.cupy_on_shim import CupyOnShim, ShimKernels

CUBLAS = "calling cuBLAS API during stream capture is currently unsupported"


class Forbidden(RuntimeError):
    """Something that a capture does not allow."""


class Device:
    """What all arrays, kernels and streams of a stand-in share."""

    def __init__(self) -> None:
        self.tape: list[Callable[[], Any]] | None = None
        self.made: list[Any] = []  # by the work that is captured
        self.allocator: Any = None
        #: What the host did: numbers read, arrays copied to and from the device.
        self.reads: list[str] = []
        self.uploads = 0
        self.graphs = self.launches = 0

    def host(self, what: str) -> None:
        """The host looks at the device, and so waits for it."""
        self.refuse(f"{what} of an array")
        self.reads.append(what)

    def refuse(self, what: str) -> None:
        """What is never allowed in a capture."""
        if self.tape is not None:
            raise Forbidden(f"{what} while the stream is captured")

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
        if any(np.may_share_memory(result, array) for array in inputs):
            return self.wrap(result)
        if self.tape is not None:
            if self.allocator is None:
                raise Forbidden("memory from outside of the graphs' pool")
            self.made.append(result)
            if fills:
                self.tape.append(lambda: np.copyto(result, call()))
        return self.wrap(result)

    def wrap(self, plain: Any) -> DeviceArray:
        array: Any = plain.view(DeviceArray)
        array.on = self
        return array  # type: ignore[no-any-return]


def opened(value: Any) -> Any:
    """What NumPy may see; an array of the host among a device's is refused, as by CuPy."""
    if isinstance(value, DeviceArray):
        return value.view(np.ndarray)
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

    def __array_finalize__(self, source: Any) -> None:
        if source is not None and hasattr(source, "on"):
            self.on = source.on

    def __array_ufunc__(self, ufunc: Any, method: Any, *inputs: Any, **kwargs: Any) -> Any:
        out = kwargs.pop("out", None)
        plain = opened(inputs)
        call = getattr(ufunc, method)
        device: Device = next(a for a in arrays_in(inputs, out) if hasattr(a, "on")).on
        if ufunc is np.matmul and device.tape is not None:
            raise NotImplementedError(CUBLAS)
        if out is None:
            return device.make(lambda: call(*plain, **kwargs))
        target = opened(out)
        device.do(lambda: call(*plain, out=target, **kwargs))
        return out[0]

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        raise TypeError(f"numpy.{function.__name__} of an array on a device; use backend.xp")

    def __getitem__(self, key: Any) -> Any:
        plain, place = opened(self), opened(key)
        if arrays_in(key):
            return self.on.make(lambda: plain[place])
        whole = place if isinstance(place, tuple) else (place,)
        return self.on.wrap(plain[whole if Ellipsis in whole else (*whole, ...)])

    def __setitem__(self, key: Any, value: Any) -> None:
        plain, place, given = opened(self), opened(key), opened(value)
        if isinstance(value, DeviceArray) and not arrays_in(key) and self._holds(key, given):
            return
        self.on.do(lambda: plain.__setitem__(place, given))

    def _holds(self, key: Any, given: Any) -> bool:
        """``a[key] = a[key]``, as ``a[key] += b`` ends: CuPy copies nothing then.

        See ``_ndarray_setitem`` in ``cupy/_core/_routines_indexing.pyx``.
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
        return self.on.make(lambda: plain.reshape(*shape, **options), [plain])

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


def _method(name: str) -> Callable[..., Any]:
    def method(self: DeviceArray, *arguments: Any, **options: Any) -> Any:
        plain, given = opened(self), opened(arguments)
        named = {key: opened(value) for key, value in options.items()}
        return self.on.make(lambda: getattr(plain, name)(*given, **named))

    return method


for _name in ("take", "sum", "max", "min", "mean", "argmax", "argsort", "astype", "copy", "clip"):
    setattr(DeviceArray, _name, _method(_name))


class Graph:
    """What was captured."""

    def __init__(self, device: Device, tape: list[Callable[[], Any]], made: list[Any]) -> None:
        self.device, self.tape, self.made = device, tape, made

    def launch(self, stream: Any = None) -> None:
        self.device.refuse("a graph launched")
        self.device.launches += 1
        for array in self.made:
            if array.dtype.kind == "f":
                array[...] = np.nan
            elif array.dtype.kind == "i":
                array[...] = np.iinfo(array.dtype).max // 2  # no index that there is
        for call in self.tape:
            call()


class Stream:
    """A stream; its work is done at once, so there is nothing to wait for."""

    def __init__(self, cuda: Any, non_blocking: bool = False) -> None:
        self.cuda, self.device, self.non_blocking = cuda, cuda.device, non_blocking

    def __enter__(self) -> Stream:
        self.cuda.streams.append(self)
        return self

    def __exit__(self, *error: Any) -> None:
        assert self.cuda.streams.pop() is self

    def record(self) -> str:
        self.device.refuse("an event recorded outside")
        return "event"

    def wait_event(self, event: str) -> None:
        assert event == "event"

    def synchronize(self) -> None:
        self.device.refuse("waiting for the stream")
        self.device.reads.append("synchronize")

    def begin_capture(self) -> None:
        assert self.non_blocking
        assert self.cuda.streams[-1] is self, "work would go to another stream"
        self.device.tape, self.device.made = [], []

    def end_capture(self) -> Graph:
        device = self.device
        tape, device.tape = device.tape, None
        assert tape is not None
        device.graphs += 1
        return Graph(device, tape, device.made)


class Cuda:
    """``cupy.cuda``, as far as it is used."""

    Memory = staticmethod(lambda size: ("memory", size))
    MemoryPointer = staticmethod(lambda memory, offset: (memory, offset))

    def __init__(self, device: Device) -> None:
        self.device = device
        self.streams = [Stream(self)]
        self.Stream = partial(Stream, self)

    def MemoryPool(self, allocator: Any) -> Any:
        assert allocator(512) == (("memory", 512), 0)
        return type("Pool", (), {"malloc": staticmethod(allocator)})

    def get_current_stream(self) -> Stream:
        return self.streams[-1]

    @contextmanager
    def using_allocator(self, allocator: Any) -> Iterator[None]:
        before, self.device.allocator = self.device.allocator, allocator
        try:
            yield
        finally:
            self.device.allocator = before


class FakeCupy:
    """The ``cupy`` module: the functions of NumPy, on arrays of a device."""

    ndarray = DeviceArray

    def __init__(self) -> None:
        self.device = Device()
        self.cuda = Cuda(self.device)

    def asarray(self, host: Any, dtype: Any = None) -> Any:
        if isinstance(host, DeviceArray):
            return host if dtype is None or host.dtype == dtype else host.astype(dtype)
        self.device.refuse("a copy from the host")
        self.device.uploads += 1
        return self.device.wrap(np.array(host, dtype=dtype))

    array = asarray

    def asnumpy(self, array: Any) -> Any:
        self.device.host("asnumpy")
        return opened(array).copy()

    def empty(self, shape: Any, dtype: Any = float) -> Any:
        # Zeros are indices, where those that a kernel will write are indices.
        made = np.empty if self.device.tape is None else np.zeros
        return self.device.make(lambda: made(shape, dtype), fills=False)

    def empty_like(self, array: Any) -> Any:
        return self.empty(array.shape, array.dtype)

    def dot(self, a: Any, b: Any, out: Any = None) -> Any:
        if self.device.tape is not None:
            raise NotImplementedError(CUBLAS)
        if out is None:
            return self.device.make(lambda: np.dot(opened(a), opened(b)))
        np.dot(opened(a), opened(b), out=opened(out))
        return out

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(np, name)
        if isinstance(attribute, type | np.ufunc) or not callable(attribute):
            return attribute

        def function(*arguments: Any, **options: Any) -> Any:
            plain, named = opened(arguments), {k: opened(v) for k, v in options.items()}
            inputs = arrays_in(plain)
            return self.device.make(lambda: attribute(*plain, **named), inputs)

        return function


class CapturingKernels(ShimKernels):
    """Kernels whose launches are written down."""

    def __init__(self, device: Device) -> None:
        super().__init__()
        self.device = device

    def get(self, file: str, function: str, *options: str) -> Any:
        kernel = super().get(file, function, *options)

        def launch(grid: Any, block: Any, arguments: Any, **keywords: Any) -> None:
            for argument in arguments:
                assert isinstance(argument, DeviceArray | np.generic), function
            self.device.do(lambda: kernel(grid, block, arguments, **keywords))

        return launch


class CapturingDevice(ShimDevice):
    """Recurrences whose launches are written down."""

    def bound(self, device: Device) -> CapturingDevice:
        self.device = device
        return self

    def launch(self, *arguments: Any) -> None:
        self.device.do(lambda: super(CapturingDevice, self).launch(*arguments))

    def launch_step(self, *arguments: Any) -> None:
        self.device.do(lambda: super(CapturingDevice, self).launch_step(*arguments))


class CapturingBackend(CupyOnShim):
    """The CuPy backend on the stand-in. ``captured`` False: each kernel is launched by itself."""

    asarray = CupyBackend.asarray
    to_numpy = CupyBackend.to_numpy
    synchronize = CupyBackend.synchronize

    def __init__(self, *, captured: bool = True) -> None:
        super().__init__()
        cupy = FakeCupy()
        self.device, self.captured = cupy.device, captured
        self.kernels = CapturingKernels(cupy.device)
        self.xp = Namespace(cupy, self.kernels)
        self.recurrent = CapturingDevice().bound(cupy.device)

    @contextmanager
    def in_place(self) -> Iterator[CapturingBackend]:
        """Recurrences of this backend find its device."""
        with mock.patch.object(recurrence, "device_of", return_value=self.recurrent):
            yield self
