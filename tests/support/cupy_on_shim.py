"""The CuPy backend without CuPy: NumPy's arrays, and its kernels run by the C++ shim.

What it launches, with which grid, arguments and types, is then the code that a device would get;
``ShimKernels`` also holds every argument against the type that the source declares.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from npnlp.backend.cuda.backend import CupyBackend
from npnlp.backend.cuda.kernel_source import kernel_source
from npnlp.backend.cuda.products import Namespace
from npnlp.backend.numpy_backend import NumpyBackend
from tests.support.shim import compiled

KERNEL = re.compile(r'extern "C" __global__ void (\w+)\(([^)]*)\)')
TYPES = {
    "int": np.int32, "unsigned int": np.uint32, "long long": np.int64, "u64": np.uint64,
    "unsigned long long": np.uint64, "float": np.float32, "double": np.float64, "bool": np.bool_,
}  # fmt: skip
#: Sources whose kernels are told the strides of their arrays.
STRIDED = {"product.cu", "affine.cu", "ngrams.cu"}
OTHERS = {"const", "*", "__restrict__"}


def declared(file: str, options: tuple[str, ...]) -> dict[str, list[tuple[type, bool]]]:
    """Of each kernel, the type of every parameter and whether it is a pointer."""
    real = dict(option.removeprefix("-D").split("=") for option in options).get("REAL", "float")

    def read(parameter: str) -> tuple[type, bool]:
        words = parameter.replace("*", " * ").split()[:-1]  # the last is its name
        kind = " ".join(real if word == "REAL" else word for word in words if word not in OTHERS)
        return TYPES[kind], "*" in words

    return {
        name: [read(parameter) for parameter in parameters.split(",")]
        for name, parameters in KERNEL.findall(kernel_source(file))
    }


class ShimKernels:
    """As ``cuda.kernel_source.Kernels``; ``seed`` is the order of the threads."""

    def __init__(self) -> None:
        self.seed = 0
        self.launched: list[str] = []

    def get(self, file: str, function: str, *options: str) -> Any:
        parameters = declared(file, options)
        module = compiled(file, tuple(parameters), options)

        def launch(
            grid: tuple[int, ...], block: tuple[int, ...], arguments: tuple[Any, ...],
            *, shared_mem: int = 0,
        ) -> None:  # fmt: skip
            assert len(arguments) == len(parameters[function])
            for place, (argument, (kind, pointer)) in enumerate(
                zip(arguments, parameters[function], strict=True)
            ):
                null = pointer and isinstance(argument, np.unsignedinteger) and argument == 0
                assert null or argument.dtype == kind, f"{function}: argument {place}"
                assert null or isinstance(argument, np.ndarray) == pointer, f"{function}: {place}"
            self.launched.append(function)
            strided = file in STRIDED
            module.launch(function, grid, block, arguments, shared_mem, self.seed, strided=strided)

        return launch


class CupyOnShim(CupyBackend):
    """Computes as :class:`CupyBackend` does, on the CPU."""

    def __init__(self, *, fused: bool = True) -> None:
        self.reason, self.fused, self.captured = "", fused, False
        self.kernels: Any = ShimKernels()
        self.xp = Namespace(np, self.kernels)

    asarray = NumpyBackend.asarray
    to_numpy = NumpyBackend.to_numpy
    synchronize = NumpyBackend.synchronize
    memory = NumpyBackend.memory
    describe = NumpyBackend.describe
