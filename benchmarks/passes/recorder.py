"""Arrays that note how long every operation on them takes, and of what kind it is.

:class:`RecordingBackend` is the NumPy backend with such arrays. A real training step on it does
what it does on NumPy, operation by operation, on the same memory: only that each is timed, alone,
without the Python around it. What is then left of the time of a step on plain arrays is the
interpreter's: Python, and what NumPy does before and after an operation's own loop.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.backend.numpy_backend import NumpyBackend
from npnlp.backend.tuned.loop import TunedPasses
from npnlp.backend.tuned.maps import AffineMaps

#: Functions of NumPy that make arrays of nothing; all others make them of arrays.
MAKERS = ("arange", "empty", "eye", "full", "ones", "zeros")
#: Whole operations of a backend, and the part of a step they belong to.
OF_BACKEND = {"segment_sum": "gather", "keep_mask": "elementwise"}


class Book:
    """What was noted: seconds and calls by part, and the shapes ``(m, k, n)`` of all products."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)
        self.products: list[tuple[int, int, int]] = []
        self.within: str | None = None

    def timed(self, part: str, call: Callable[[], Any]) -> Any:
        """What ``call`` returns; its time is noted under ``part``, or under :meth:`inside`'s."""
        started = time.perf_counter()
        result = call()
        taken = time.perf_counter() - started
        part = self.within or part
        self.seconds[part] += taken
        self.calls[part] += 1
        return result

    @contextmanager
    def inside(self, part: str) -> Iterator[None]:
        """Everything in it belongs to ``part``."""
        before, self.within = self.within, part
        try:
            yield
        finally:
            self.within = before


class Recorded(np.ndarray[Any, Any]):
    """A view of an array; what is computed with it goes into ``book``."""

    book: Book = Book()

    def __array_ufunc__(
        self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **keywords: Any
    ) -> Any:
        """Elementwise operations, reductions and ``matmul``."""
        given = [plain(value) for value in inputs]
        if out is not None:
            keywords["out"] = tuple(plain(value) for value in out)
        part = "tanh" if ufunc is np.tanh else "elementwise"
        if ufunc is np.matmul:
            part = self.book_product(*given)
        operation = getattr(ufunc, method)
        result = self.book.timed(part, lambda: operation(*given, **keywords))
        if out is not None:
            return out[0] if len(out) == 1 else out
        return wrapped(result)

    def __array_function__(
        self, function: Any, types: Any, arguments: Any, keywords: Any
    ) -> Any:  # fmt: skip
        """Functions of NumPy that are no ufuncs."""
        given, named = plain(arguments), {name: plain(v) for name, v in keywords.items()}
        part = "gather" if function is np.take else "elementwise"
        if function is np.dot:
            part = self.book_product(*given[:2])
        return wrapped(self.book.timed(part, lambda: function(*given, **named)))

    def book_product(self, left: Any, right: Any) -> str:
        """Note the shape; the part: norms are the optimizer's, sums over rows elementwise."""
        if left.ndim > 1 and right.ndim > 1:
            blocks = max(1, *(int(np.prod(side.shape[:-2])) for side in (left, right)))
            shape = (left.shape[-2], left.shape[-1], right.shape[-1])
            self.book.products += [shape] * blocks
            return "products"
        return "optimizer" if left.ndim == right.ndim else "elementwise"

    def __getitem__(self, key: Any) -> Any:
        """A view costs the interpreter; rows picked by numbers are a gather."""
        if not any(
            isinstance(part, np.ndarray) for part in (key if type(key) is tuple else (key,))
        ):
            return super().__getitem__(key)
        base, places = plain(self), plain(key)
        return wrapped(self.book.timed("gather", lambda: base[places]))

    def __setitem__(self, key: Any, value: Any) -> None:
        """An assignment to a part."""
        base, places, given = plain(self), plain(key), plain(value)
        self.book.timed("elementwise", lambda: base.__setitem__(places, given))

    def take(self, indices: Any, *arguments: Any, **keywords: Any) -> Any:
        """A gather."""
        base, places = plain(self), plain(indices)
        named = {name: plain(value) for name, value in keywords.items()}
        return wrapped(self.book.timed("gather", lambda: base.take(places, *arguments, **named)))

    def dot(self, other: Any, out: Any = None) -> Any:
        """See :func:`numpy.dot`."""
        return np.dot(self, other) if out is None else np.dot(self, other, out)

    def copy(self, *arguments: Any, **keywords: Any) -> Any:
        """A copy."""
        base = plain(self)
        return wrapped(self.book.timed("elementwise", lambda: base.copy(*arguments, **keywords)))

    def argmax(self, *arguments: Any, **keywords: Any) -> Any:
        """The only reduction that is no ufunc."""
        base = plain(self)
        return wrapped(self.book.timed("elementwise", lambda: base.argmax(*arguments, **keywords)))


def plain(value: Any) -> Any:
    """The same without recording, in tuples and lists too."""
    if isinstance(value, Recorded):
        return value.view(np.ndarray)
    if isinstance(value, (tuple, list)):
        return type(value)(map(plain, value)) if type(value) in (tuple, list) else value
    return value


def wrapped(value: Any) -> Any:
    """Arrays as recorded ones, in tuples too; scalars as they are."""
    if isinstance(value, np.ndarray):
        return value.view(Recorded)
    return tuple(map(wrapped, value)) if type(value) is tuple else value


class RecordingNumpy:
    """The module NumPy, whose new arrays are recorded ones."""

    def __getattr__(self, name: str) -> Any:
        found = getattr(np, name)
        if name not in MAKERS:
            return found
        return lambda *arguments, **keywords: found(*arguments, **keywords).view(Recorded)


class RecordingBackend(NumpyBackend):
    """The NumPy backend on recorded arrays."""

    xp: Any = RecordingNumpy()

    def asarray(self, host: NDArray[Any], dtype: Any = None) -> Any:
        """See :meth:`Backend.asarray`."""
        return wrapped(super().asarray(plain(host), dtype))

    def recurrent_passes(self, kind: str, hidden_size: int, dtype: Any) -> Any:
        """See :meth:`Backend.recurrent_passes`: the same loop, on recorded arrays."""
        maps = AffineMaps(self.xp, self.small_product)
        return TunedPasses(kind, hidden_size, maps, self.segment_sum)

    def adam_step(self, dtype: Any) -> Any:
        """See :meth:`Backend.adam_step`."""
        step: Any = super().adam_step(dtype)

        def recorded(*arguments: Any) -> None:
            given = plain(arguments)
            Recorded.book.timed("optimizer", lambda: step(*given))

        return recorded

    def to_numpy(self, array: Any) -> NDArray[Any]:
        """See :meth:`Backend.to_numpy`."""
        found: NDArray[Any] = plain(array)
        return found


def _whole(name: str, part: str) -> Any:
    def operation(self: RecordingBackend, *arguments: Any, **keywords: Any) -> Any:
        call = getattr(NUMPY, name)
        given = plain(arguments)
        return wrapped(Recorded.book.timed(part, lambda: call(*given, **keywords)))

    return operation


NUMPY = NumpyBackend()
for _name, _part in OF_BACKEND.items():
    if hasattr(NumpyBackend, _name):
        setattr(RecordingBackend, _name, _whole(_name, _part))


@contextmanager
def recording() -> Iterator[Book]:
    """A new book for what is computed inside."""
    before, Recorded.book = Recorded.book, Book()
    try:
        yield Recorded.book
    finally:
        Recorded.book = before


def cost_of_a_call(rounds: int = 2000) -> tuple[float, float]:
    """Seconds that :meth:`Book.timed` notes of nothing, and of a ufunc on a single number."""
    one, out = np.ones(1, dtype=np.float32), np.empty(1, dtype=np.float32)

    def least(call: Callable[[], Any]) -> float:
        taken = []
        for _ in range(rounds):
            book = Book()
            book.timed("", call)
            taken.append(book.seconds[""])
        return float(np.median(taken))

    return least(lambda: None), least(lambda: np.add(one, one, out=out))
