"""CuPy on a CUDA device, in plain array operations. The only importer of CuPy."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.backend.base import Array, Backend
from npnlp.errors import DeviceError

INSTALL = "pip install 'npnlp[cuda13]' (or 'npnlp[cuda12]')"


class CupyBackend(Backend):
    """Arrays are ``cupy.ndarray`` in device memory.

    Raises :class:`DeviceError` where CuPy is not installed, and, with another message, where it
    is but no device answers: an import alone proves nothing, so a small sum is done on the device.
    """

    name = "cupy"

    def __init__(self, reason: str = "") -> None:
        self.reason = reason
        self.xp = _import_cupy()
        _require_device(self.xp)

    def asarray(self, host: NDArray[Any], dtype: Any = None) -> Array:
        """See :meth:`Backend.asarray`."""
        return self.xp.asarray(host, dtype=dtype)  # type: ignore[no-any-return]

    def to_numpy(self, array: Array) -> NDArray[Any]:
        """See :meth:`Backend.to_numpy`. Waits for the device."""
        return np.asarray(self.xp.asnumpy(array))

    def segment_sum(self, values: Array, segments: Array, size: int) -> Array:
        """See :meth:`Backend.segment_sum`.

        A product with a one-hot matrix: every sum has one fixed order, where atomic additions
        would come in any.
        """
        xp = self.xp
        one_hot = (xp.arange(size)[:, None] == segments[None, :]).astype(values.dtype)
        return xp.dot(one_hot, values)  # type: ignore[no-any-return]

    def synchronize(self) -> None:
        """See :meth:`Backend.synchronize`."""
        self.xp.cuda.get_current_stream().synchronize()

    def keep_memory(self) -> None:
        """Nothing to do: CuPy's memory pool keeps what it is given back."""

    def describe(self) -> dict[str, str]:
        """See :meth:`Backend.describe`."""
        properties = self.xp.cuda.runtime.getDeviceProperties(self.xp.cuda.Device().id)
        return {
            "backend": self.name,
            "numpy": np.__version__,
            "cupy": self.xp.__version__,
            "device": properties["name"].decode(),
        }


def _import_cupy() -> Any:
    try:
        with warnings.catch_warnings():
            # CuPy warns at import about what the device check below says with a remedy.
            warnings.simplefilter("ignore")
            import cupy
    except ModuleNotFoundError as error:
        if error.name == "cupy":
            raise DeviceError(
                f"backend cupy: CuPy is not installed; {INSTALL}, or use --backend numpy"
            ) from error
        raise DeviceError(_broken(error)) from error
    except Exception as error:
        raise DeviceError(_broken(error)) from error
    return cupy


def _broken(error: Exception) -> str:
    return (
        f"backend cupy: CuPy is installed but cannot be imported ({_one_line(error)}); "
        f"reinstall it: {INSTALL}, or use --backend numpy"
    )


def _require_device(cupy: Any) -> None:
    try:
        works = int((cupy.arange(3) + 1).sum()) == 6
    except Exception as error:
        raise DeviceError(
            f"backend cupy: CuPy {cupy.__version__} is installed but no CUDA device is usable "
            f"({_one_line(error)}); check the driver with nvidia-smi, or use --backend numpy"
        ) from error
    if not works:
        raise DeviceError(
            "backend cupy: the CUDA device gave a wrong sum; check it, or use --backend numpy"
        )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
