"""The CUDA sources in ``kernels/``, and the kernels that CuPy compiles from them.

``#include "OTHER.cuh"`` is replaced by that file, once, so that the compiler needs no path into the
package. Options such as ``-DREAL=double`` set the macros of a source.
"""

from __future__ import annotations

import re
from functools import lru_cache
from importlib import resources
from typing import Any

import numpy as np

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]+"(?P<name>[\w.]+)"[^\n]*$', re.MULTILINE)
#: The dtypes that kernels support, and their names in a source.
REALS = {"float32": "float", "float64": "double"}
#: A null pointer among the arguments of a kernel.
NULL = np.uintp(0)
#: Threads of a block where nothing asks for another number.
BLOCK = 256


@lru_cache(maxsize=64)
def kernel_source(name: str) -> str:
    """The text of ``kernels/name`` with its includes expanded, each of them once."""
    return _expanded(name, set())


def _expanded(name: str, seen: set[str]) -> str:
    if name in seen:
        return ""
    seen.add(name)
    text = (resources.files("npnlp.backend.cuda") / "kernels" / name).read_text("utf-8")
    return INCLUDE.sub(lambda match: _expanded(match["name"], seen), text)


def real_option(dtype: Any) -> str:
    """``-DREAL=float`` or ``-DREAL=double``. Raises :class:`KeyError` for another dtype."""
    return f"-DREAL={REALS[np.dtype(dtype).name]}"


def grid_of(threads: int) -> tuple[tuple[int], tuple[int]]:
    """The grid and the block of a kernel with this many threads."""
    return (-(-threads // BLOCK),), (BLOCK,)


class Kernels:
    """Compiled kernels of one CuPy, by source, name, options and device.

    CuPy compiles at the first call on a device and caches the binary on disk.
    """

    def __init__(self, cupy: Any) -> None:
        self._cupy = cupy
        self._modules: dict[tuple[str, tuple[str, ...], int], Any] = {}
        self._functions: dict[tuple[str, str, tuple[str, ...], int], Any] = {}

    def get(self, file: str, function: str, *options: str) -> Any:
        """The kernel ``function`` of ``kernels/file`` on the current device, a ``RawKernel``.

        Call it with ``(grid, block, arguments)``. Numbers among the arguments have to be NumPy
        scalars of the kernel's own types: a Python number would be passed with another size.
        """
        device = int(self._cupy.cuda.runtime.getDevice())
        key = (file, function, options, device)
        if key not in self._functions:
            self._functions[key] = self._module(file, options, device).get_function(function)
        return self._functions[key]

    def _module(self, file: str, options: tuple[str, ...], device: int) -> Any:
        key = (file, options, device)
        if key not in self._modules:
            self._modules[key] = self._cupy.RawModule(
                code=kernel_source(file), options=("-std=c++17", *options)
            )
        return self._modules[key]
