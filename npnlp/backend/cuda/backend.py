"""CuPy on a CUDA device: plain array operations, and a kernel where one saves many launches.

Only this module imports CuPy. A kernel has to equal the code of its layer, which runs for dtypes
that the kernels do not support.
"""

from __future__ import annotations

import io
import warnings
from contextlib import redirect_stderr
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.backend.base import Array, Backend
from npnlp.backend.cuda.affine import Affine
from npnlp.backend.cuda.attention import KernelAttention
from npnlp.backend.cuda.graphs import Graphs
from npnlp.backend.cuda.head import KernelCrossEntropy, KernelHead
from npnlp.backend.cuda.kernel_source import REALS, Kernels, grid_of, real_option
from npnlp.backend.cuda.masks import Masks
from npnlp.backend.cuda.ngrams import KernelBag
from npnlp.backend.cuda.pooling import KernelPooling
from npnlp.backend.cuda.products import Namespace
from npnlp.backend.cuda.recurrent_passes import CapturedPasses, KernelPasses, supports
from npnlp.backend.cuda.soft_loss import KernelSoftLoss
from npnlp.backend.cuda.why_not import Facts, diagnose
from npnlp.backend.numpy_backend import add_not_finite
from npnlp.backend.operations import (
    AdamNumbers,
    AdamStep,
    BagPasses,
    ClassifierHead,
    CrossEntropyPasses,
    LinearPasses,
    PackedSteps,
    RecurrentPasses,
    WorkGraphs,
)
from npnlp.backend.random import Random
from npnlp.backend.soft_loss import SoftLoss
from npnlp.backend.step_operations import AttentionPasses, StepSoftmax
from npnlp.backend.tuned.maps import AffineMaps
from npnlp.errors import DeviceError

#: Threads of a block in ``segment_sum.cu``, and its columns.
SEGMENT_THREADS, SEGMENT_COLUMNS = 256, 32
#: Up to this ``rows * segments`` each segment searches for its rows, in one launch; above it, rows
#: are sorted, in some twenty launches.
LOOK_UP_TO = 2**26


class CupyBackend(Backend):
    """Arrays are ``cupy.ndarray`` in device memory.

    Raises :class:`DeviceError` where CuPy is not installed completely or no device works, which a
    small computation tests. With ``fused`` False, for comparison, array calls do all the work and
    no kernel of this project is launched. With ``captured`` False a training step is launched
    kernel by kernel. With ``local_rank`` this thread computes on the device of that number, or,
    where there are fewer devices, on that of the remainder; else on CuPy's current one.
    """

    name = "cupy"

    def __init__(
        self, reason: str = "", *, fused: bool = True, captured: bool = True,
        local_rank: int | None = None,
    ) -> None:  # fmt: skip
        self.reason, self.fused, self.captured = reason, fused, captured
        cupy = _import_cupy()
        _require_device(cupy, local_rank)
        self.kernels = Kernels(cupy)
        self.xp = Namespace(cupy, self.kernels)

    def __getstate__(self) -> dict[str, Any]:
        """What it was made with: modules and kernels are those of a process."""
        return {name: getattr(self, name) for name in ("reason", "fused", "captured")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]  # looks for the device of this process

    def asarray(self, host: NDArray[Any], dtype: Any = None) -> Array:
        """See :meth:`Backend.asarray`."""
        return self.xp.asarray(host, dtype=dtype)  # type: ignore[no-any-return]

    def to_numpy(self, array: Array) -> NDArray[Any]:
        """See :meth:`Backend.to_numpy`. Waits for the device."""
        return np.asarray(self.xp.asnumpy(array))

    def segment_sum(self, values: Array, segments: Array, size: int) -> Array:
        """See :meth:`Backend.segment_sum`. The order of summation is fixed."""
        xp, (rows, columns) = self.xp, values.shape
        if not self._has_kernels(values):
            return self._sum_by_product(values, segments, size)
        out = xp.empty((size, columns), dtype=values.dtype)
        order, starts = self._segment_order(segments, rows, size)
        kernel = self.kernels.get("segment_sum.cu", "segment_sum", real_option(values.dtype))
        grid = (size, -(-columns // SEGMENT_COLUMNS))
        arguments = (xp.ascontiguousarray(values), order, starts, out, np.int32(columns))
        kernel(grid, (SEGMENT_THREADS,), arguments)
        return out  # type: ignore[no-any-return]

    def first_largest(self, x: Array, steps: PackedSteps) -> Array:
        """Without a kernel: of one padded array, unless it would be padding for the most part."""
        if self._has_kernels(x):
            return KernelPooling(self.xp, self.kernels).first_largest(x, steps)
        (offsets, sizes, batch, longest), xp = steps.on_device, self.xp
        if longest * batch > 4 * len(x):
            return super().first_largest(x, steps)
        rows, places = offsets[:, None] + xp.arange(batch), xp.arange(batch)
        padded = x.take(xp.minimum(rows, len(x) - 1), axis=0)
        padded[places >= sizes[:, None]] = -float("inf")
        found: Array = offsets.take(padded.argmax(axis=0)) + places[:, None]
        return found

    def _sum_by_product(self, values: Array, segments: Array, size: int) -> Array:
        """Without kernels; numbers that are not finite stay in their own segments."""
        xp, finite = self.xp, self.xp.isfinite(values)
        one_hot = (xp.arange(size)[:, None] == segments[None, :]).astype(values.dtype)
        sums: Array = xp.dot(one_hot, xp.where(finite, values, 0))
        if not finite.all():
            others = np.zeros(sums.shape, values.dtype)
            add_not_finite(others, self.to_numpy(values), self.to_numpy(segments))
            sums += self.asarray(others)
        return sums

    def all_below(self, indices: Array, size: int) -> bool:
        """See :meth:`Backend.all_below`. Reads one number, except in a captured step.

        There none may be read; its indices are checked before the first step.
        """
        if self.xp.capturable or not indices.size:
            return True
        unsigned = indices.astype(np.int64, copy=False).view(np.uint64)  # a negative is large
        return int(unsigned.max()) < size

    def _segment_order(self, segments: Array, rows: int, size: int) -> tuple[Array, Array]:
        """The rows sorted by segment, and where each segment begins."""
        xp = self.xp
        segments = xp.ascontiguousarray(segments, dtype=np.int64)
        if rows * size > LOOK_UP_TO and not xp.capturable:  # a capture has no sort
            order = xp.argsort(segments, kind="stable")
            starts = xp.searchsorted(segments.take(order), xp.arange(size + 1))
            return order.astype(np.int32), starts.astype(np.int32)
        order, starts = xp.empty(rows, dtype=np.int32), xp.empty(size + 1, dtype=np.int32)
        kernel = self.kernels.get("segment_sum.cu", "segment_order")
        kernel((size,), (SEGMENT_THREADS,), (segments, np.int32(rows), order, starts))
        return order, starts

    def keep_mask(self, random: Random, shape: tuple[int, ...], p: float) -> Array:
        """See :meth:`Backend.keep_mask`. Computed on the device, except for a part of a batch.

        ``random.step`` may be an array of one uint64 on the device.
        """
        if not self.fused or random.share is not None:
            return super().keep_mask(random, shape, p)
        return Masks(self.xp, self.kernels).keep(random, shape, p)

    def dropout(self, x: Array, random: Random, p: float) -> tuple[Array, Array]:
        """See :meth:`Backend.dropout`. One launch, except for a part of a batch."""
        if not self._has_kernels(x) or random.share is not None:
            return super().dropout(x, random, p)
        return Masks(self.xp, self.kernels).dropout(x, random, p)

    def _has_kernels(self, array: Array) -> bool:
        return self._serves(array.dtype) and array.size > 0

    def recurrent_passes(
        self, kind: str, hidden_size: int, dtype: np.dtype[Any]
    ) -> RecurrentPasses | None:
        """See :meth:`Backend.recurrent_passes`."""
        if not self.fused or not supports(kind, dtype):
            return None
        maps, kernels = AffineMaps(self.xp, self.small_product), self.kernels
        of = CapturedPasses if self.xp.fuses else KernelPasses
        return of(kind, hidden_size, maps, self.segment_sum, kernels)

    def linear_passes(self, dtype: np.dtype[Any]) -> LinearPasses | None:
        """See :meth:`Backend.linear_passes`. For captured steps; elsewhere there is cuBLAS."""
        return Affine(self.xp, self.kernels) if self._captures(dtype) else None

    def attention_passes(self, dtype: np.dtype[Any]) -> AttentionPasses | None:
        """See :meth:`Backend.attention_passes`. For captured steps, whose rows are sorted."""
        return KernelAttention(self.xp, self.kernels) if self._captures(dtype) else None

    def step_softmax(self, dtype: np.dtype[Any]) -> StepSoftmax | None:
        """See :meth:`Backend.step_softmax`."""
        return KernelPooling(self.xp, self.kernels) if self._serves(dtype) else None

    def classifier_head(self, dtype: np.dtype[Any]) -> ClassifierHead | None:
        """See :meth:`Backend.classifier_head`. For captured steps."""
        return KernelHead(self.xp, self.kernels) if self._captures(dtype) else None

    def _serves(self, dtype: np.dtype[Any]) -> bool:
        return self.fused and dtype.name in REALS

    def _captures(self, dtype: np.dtype[Any]) -> bool:
        return self._serves(dtype) and bool(self.xp.fuses)

    def cross_entropy_passes(self, dtype: np.dtype[Any]) -> CrossEntropyPasses | None:
        """See :meth:`Backend.cross_entropy_passes`."""
        return KernelCrossEntropy(self.xp, self.kernels) if self._serves(dtype) else None

    def soft_loss(self, dtype: np.dtype[Any]) -> SoftLoss | None:
        """See :meth:`Backend.soft_loss`."""
        return KernelSoftLoss(self) if self._serves(dtype) else None

    def bag_passes(self, dtype: np.dtype[Any]) -> BagPasses | None:
        """See :meth:`Backend.bag_passes`."""
        return KernelBag(self) if self._serves(dtype) else None

    def adam_step(self, dtype: np.dtype[Any]) -> AdamStep | None:
        """See :meth:`Backend.adam_step`. One pass over the buffers; ``scratch`` is not used."""
        return self._adam_step if self._serves(dtype) else None

    def _adam_step(
        self, values: Array, grads: Array, moments: tuple[Array, Array], scratch: Array,
        numbers: AdamNumbers,
    ) -> None:  # fmt: skip
        real = values.dtype
        kernel = self.kernels.get("adam.cu", "adam_step", real_option(real))
        scalars = (real.type(number) for number in numbers)
        kernel(*grid_of(values.size), (values, grads, *moments, np.int64(values.size), *scalars))

    def graphs(self) -> WorkGraphs | None:
        """See :meth:`Backend.graphs`."""
        return Graphs(self.xp) if self.fused and self.captured else None

    def synchronize(self) -> None:
        """See :meth:`Backend.synchronize`."""
        self.xp.cuda.get_current_stream().synchronize()

    def keep_memory(self) -> None:
        """Nothing to do: CuPy's memory pool reuses freed memory."""

    def memory(self) -> tuple[int, int] | None:
        """See :meth:`Backend.memory`."""
        free, total = self.xp.cuda.runtime.memGetInfo()
        return int(free), int(total)

    def describe(self) -> dict[str, str]:
        """See :meth:`Backend.describe`."""
        runtime = self.xp.cuda.runtime
        properties = runtime.getDeviceProperties(self.xp.cuda.Device().id)
        driver, built = int(runtime.driverGetVersion()), int(runtime.runtimeGetVersion())
        return {
            "backend": self.name,
            "numpy": np.__version__,
            "cupy": self.xp.__version__,
            "cuda": f"{built // 1000}.{built % 1000 // 10}",
            "driver": f"for CUDA {driver // 1000}.{driver % 1000 // 10}",
            "device": properties["name"].decode(),
            "compute_capability": f"{properties['major']}.{properties['minor']}",
        }


def _import_cupy() -> Any:
    try:
        # The device check below reports the problems that CuPy warns of, with a remedy.
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            import cupy
        cupy.__version__  # noqa: B018  the remains of a removed CuPy can be imported too
    except Exception as error:
        raise DeviceError(diagnose(error, Facts.gather())) from error
    return cupy


def _require_device(cupy: Any, local_rank: int | None) -> None:
    try:
        if local_rank is not None:
            cupy.cuda.Device(local_rank % cupy.cuda.runtime.getDeviceCount()).use()
        numbers = (cupy.arange(6) + 1).astype(np.float32).reshape(2, 3)  # compiles a kernel
        products = cupy.dot(numbers, numbers.T)  # cuBLAS, which CuPy asks for no dot of vectors
        works = int(numbers.sum()) == 21 and products.tolist() == [[14, 32], [32, 77]]
    except Exception as error:
        raise DeviceError(diagnose(error, Facts.gather(cupy))) from error
    if not works:
        raise DeviceError(
            "backend cupy: the CUDA device gave a wrong sum or product; check it, or use "
            "--backend numpy"
        )
