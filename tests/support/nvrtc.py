"""Kernels compiled to machine code without a device: by CuPy, where it is installed, or by NVRTC.

CuPy compiles with its own options (``cupy/cuda/compiler.py``, CuPy 14.2), of which :data:`OPTIONS`
are those that say what code is made; the others name folders of headers, and no kernel includes a
header. With CuPy, all of its own way is gone: from ``compile_with_cache``, which a ``RawModule``
calls, to the machine code that it would load.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib.util
import io
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from npnlp.backend.cuda.kernel_source import kernel_source
from npnlp.backend.cuda.recurrence import Limits

#: CuPy adds the last ones to what a module is given, and ``-arch=sm_XX``.
OPTIONS = ("-std=c++17", "-ftz=true", "--device-as-default-execution-space")
#: What the assembler says of registers and spills; nothing of the code depends on it.
REPORT = "--ptxas-options=-v"
#: Of each compute capability, without its point: KiB of shared memory that a block can ask for.
SHARED = {75: 64, 80: 163, 86: 99, 87: 163, 88: 99, 89: 99, 90: 227, 100: 227, 103: 227,
          110: 227, 120: 99, 121: 99}  # fmt: skip
#: Those that kernels are held to; beside them, the newest that NVRTC knows.
TARGETS = ("75", "80", "86", "89", "90", "100", "120", "newest")


@dataclass(frozen=True)
class Compiled:
    """Machine code, what the assembler says of it, and the options that it was made with."""

    code: bytes
    log: str
    options: tuple[str, ...]


def in_wheels(pattern: str) -> list[str]:
    """Files of NVIDIA's wheels, the newest first."""
    spec = importlib.util.find_spec("nvidia")
    roots = [] if spec is None else list(spec.submodule_search_locations or ())
    return sorted((str(f) for root in roots for f in Path(root).glob(pattern)), reverse=True)


@lru_cache(maxsize=1)
def nvrtc() -> Any:
    """NVRTC from NVIDIA's wheels (extra cuda13) or from the system, or None."""
    for name in (*in_wheels("*/lib/libnvrtc.so.*"), ctypes.util.find_library("nvrtc")):
        if name is not None:
            return ctypes.CDLL(name)
    return None


def known_targets() -> list[int]:
    """The compute capabilities that NVRTC compiles for. Skips the test where there is no NVRTC."""
    if nvrtc() is None:
        pytest.skip("NVRTC is not installed: pip install 'cupy-cuda13x[ctk]'")
    count = ctypes.c_int()
    assert nvrtc().nvrtcGetNumSupportedArchs(ctypes.byref(count)) == 0
    known = (ctypes.c_int * count.value)()
    assert nvrtc().nvrtcGetSupportedArchs(known) == 0
    return sorted(known)


def limits_of(target: int) -> Limits:
    """The limits of a device of this compute capability, with 100 multiprocessors."""
    return Limits(1024 * SHARED.get(target, 99), clusters=target >= 90, multiprocessors=100)


def compile_for(target: int, file: str, *options: str) -> Compiled:
    """``kernels/FILE`` as CuPy compiles it there; the assembler's report is asked for as well."""
    source, given = kernel_source(file), ("-std=c++17", *options, REPORT)
    if nvrtc() is not None and importlib.util.find_spec("cupy") is not None:
        return _by_cupy(target, source, given)
    return _by_nvrtc(target, source, (*given, *OPTIONS[1:], f"-arch=sm_{target}"))


def _by_cupy(target: int, source: str, options: tuple[str, ...]) -> Compiled:
    """CuPy asks the device which it is, and loads what it made: both are answered here."""
    from cupy._core import core
    from cupy.cuda import compiler, function

    made: list[bytes] = []
    asked: list[tuple[str, ...]] = []

    class Held(function.Module):  # type: ignore[misc]
        def load(self, cubin: bytes) -> None:
            made.append(cubin)

    class NoCache:
        def load(self, name: str) -> None:
            return None

        def save(self, name: str, cubin: bytes, source: str) -> None:
            pass

    class Program(compiler._NVRTCProgram):  # type: ignore[misc]
        def compile(self, options: tuple[str, ...] = (), log_stream: Any = None) -> Any:
            asked.append(options)
            return super().compile(options, log_stream)

    log, no_device = io.StringIO(), compiler._get_arch_for_options_for_nvrtc.__wrapped__
    with (
        mock.patch.object(compiler, "_get_arch_for_options_for_nvrtc", no_device),
        mock.patch.object(compiler, "_kernel_cache_backend", NoCache()),
        mock.patch.object(compiler, "_NVRTCProgram", Program),
        mock.patch.object(function, "Module", Held),
    ):
        core.compile_with_cache(
            source, options, arch=str(target), prepend_cupy_headers=False, log_stream=log
        )
    return Compiled(made[-1], log.getvalue(), asked[-1])


def _by_nvrtc(target: int, source: str, options: tuple[str, ...]) -> Compiled:
    library, program, size = nvrtc(), ctypes.c_void_p(), ctypes.c_size_t()
    assert library.nvrtcCreateProgram(
        ctypes.byref(program), source.encode(), b"kernel.cu", 0, None, None
    ) == 0  # fmt: skip
    encoded = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
    status = library.nvrtcCompileProgram(program, len(options), encoded)
    library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    library.nvrtcGetProgramLog(program, log)
    text = log.value.decode()
    assert status == 0, f"for sm_{target}: {text}"
    library.nvrtcGetCUBINSize(program, ctypes.byref(size))
    code = ctypes.create_string_buffer(size.value)
    library.nvrtcGetCUBIN(program, code)
    library.nvrtcDestroyProgram(ctypes.byref(program))
    return Compiled(code.raw, text, options)


def instructions(code: bytes, kernel: str, folder: Path) -> list[str]:
    """Labels (``.L_x_1:``) and instructions of a kernel. Skips the test without nvdisasm."""
    tool = next(iter(in_wheels("*/bin/nvdisasm")), None) or shutil.which("nvdisasm")
    if tool is None:
        pytest.skip("nvdisasm is not installed: pip install nvidia-cuda-nvdisasm")
    whole = code + bytes(-len(code) % 8)  # CuPy 14.2 leaves out the last byte, a zero
    (folder / "code.cubin").write_bytes(whole)
    command = [tool, "-c", str(folder / "code.cubin")]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    _, _, rest = text.partition(f"\n.text.{kernel}:\n")
    lines = re.split(r"\n\.section|\n\.text", rest)[0].split("\n")
    found = [re.sub(r"/\*.*?\*/", "", line).strip(" \t;") for line in lines]
    return [line for line in found if line]


#: A jump on a condition; those without one lead back from code that is laid aside.
BACK = r"^(?:@\S+ BRA|BRA\.U).*(\.L_\w+)"


def loop_around(lines: list[str], mark: str) -> list[str]:
    """The shortest loop with an instruction that ``mark`` finds: from a label to its last jump."""
    labels = {line[:-1]: i for i, line in enumerate(lines) if re.fullmatch(r"\.L_\w+:", line)}
    jumps = [(i, m[1]) for i, line in enumerate(lines) if (m := re.search(BACK, line))]
    marked = [i for i, line in enumerate(lines) if re.search(mark, line)]
    loops = [
        (end - labels[to], lines[labels[to] : end + 1])
        for end, to in jumps if to in labels
        if any(labels[to] <= i <= end for i in marked)
    ]  # fmt: skip
    assert loops, f"no loop with {mark}"
    return min(loops)[1]
