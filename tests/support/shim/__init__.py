"""CUDA kernels compiled by a C++ compiler and run on the CPU; see ``cuda_shim.h``.

``compiled("softmax.cu", ["softmax_losses"])`` gives a :class:`Module` whose ``launch`` takes what
CuPy's kernels take: a grid, a block, the arguments and the bytes of dynamic shared memory.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npnlp.backend.cuda.kernel_source import kernel_source

HEADER, CLUSTERS = (Path(__file__).parent / name for name in ("cuda_shim.h", "cluster_shim.h"))
FLAGS = (
    "-O1", "-std=c++17", "-fPIC", "-shared", "-fvisibility=hidden", "-ffp-contract=off",
    "-U_FORTIFY_SOURCE", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas",
    "-Wno-unused-function",
)  # fmt: skip


class KernelError(Exception):
    """What the shim found wrong with a run of a kernel."""


def compiler() -> str | None:
    """A C++ compiler, or None where there is none."""
    names = (os.environ.get("CXX"), "g++", "c++", "clang++")
    return next((found for name in names if name and (found := shutil.which(name))), None)


def require_compiler() -> str:
    found = compiler()
    if found is None:
        pytest.skip("no C++ compiler (g++, c++, clang++ or $CXX) to run kernels on the CPU with")
    return found


class Module:
    """The kernels of one source, as functions of this process."""

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))

    def launch(
        self, name: str, grid: tuple[int, ...], block: tuple[int, ...], arguments: Sequence[Any],
        shared: int = 0, seed: int = 0, cluster: int = 1, strided: bool = False,
    ) -> None:  # fmt: skip
        """Run all blocks; arguments: arrays, NumPy scalars of the kernel's types, ``uintp(0)``.

        ``seed`` orders the threads; ``strided`` is of a kernel that is told the strides of its
        arrays. Raises :class:`KernelError` where the shim finds a mistake.
        """
        parameters = self._text(f"signature_{name}").split()
        held = [
            _passed(f"{name}: argument {place}", *both, strided)
            for place, both in enumerate(zip(arguments, parameters, strict=True))
        ]
        pointers = (ctypes.c_void_p * len(held))(*(a.ctypes.data for a in held))
        wrong = self._text(
            f"launch_{name}", pointers, _three(grid), _three(block),
            ctypes.c_uint(cluster), ctypes.c_size_t(shared), ctypes.c_uint64(seed),
        )  # fmt: skip
        if wrong:
            raise KernelError(f"{name}: {wrong}")

    def _text(self, name: str, *arguments: Any) -> str:
        function = getattr(self._library, name)
        function.restype = ctypes.c_char_p
        text: bytes | None = function(*arguments)
        return (text or b"").decode()


def _passed(what: str, argument: Any, parameter: str, strided: bool) -> Any:
    """Memory that holds the argument, which has to be of the parameter's very type."""
    if not parameter.startswith("*"):
        assert isinstance(argument, np.generic), f"{what}: {argument!r} has no size of its own"
        assert f"{argument.dtype.kind}{argument.itemsize}" == parameter, f"{what}: {parameter}"
        return np.array(argument)
    if isinstance(argument, np.ndarray):
        assert f"{argument.dtype.kind}{argument.itemsize}" == parameter[1:], f"{what}: {parameter}"
        assert strided or argument.flags.c_contiguous, (
            f"{what}: a kernel would read it in another order"
        )
        return np.array(argument.ctypes.data, dtype=np.uintp)
    assert isinstance(argument, np.uintp) and argument == 0, f"{what}: {argument!r} is no pointer"  # noqa: PT018
    return np.array(argument)


def _three(sizes: tuple[int, ...]) -> Any:
    return (ctypes.c_uint * 3)(*(*sizes, 1, 1)[:3])


@lru_cache(maxsize=256)
def compiled(
    file: str,
    kernels: tuple[str, ...],
    options: tuple[str, ...] = (),
    edits: tuple[tuple[str, str], ...] = (),
) -> Module:
    """``npnlp/backend/kernels/file`` with these ``-D`` options, compiled once and kept.

    ``edits`` are replacements in the source, for mistakes planted on purpose. Skips the test where
    there is no C++ compiler.
    """
    cxx, source = require_compiler(), kernel_source(file)
    for old, new in edits:
        assert source.count(old) == 1, f"{old!r} is {source.count(old)} times in {file}"
        source = source.replace(old, new)
    source = f'#include "{HEADER}"\n{source}\n' + "".join(f"SHIM_EXPORT({k})\n" for k in kernels)
    headers = (header.read_text("utf-8") for header in (HEADER, CLUSTERS))
    content = "\0".join([source, *headers, cxx, *FLAGS, *options])
    name = hashlib.blake2b(content.encode(), digest_size=12).hexdigest()
    folder = Path(tempfile.gettempdir()) / f"npnlp-shim-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    library = folder / f"{name}.so"
    if not library.exists():
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            text, made = Path(scratch) / "kernel.cpp", Path(scratch) / "kernel.so"
            text.write_text(source, "utf-8")
            command = [cxx, *FLAGS, *options, str(text), "-o", str(made)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=900)
            assert done.returncode == 0, done.stderr
            made.replace(library)
    return Module(library)
