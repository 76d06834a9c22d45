"""The real CuPy on a pretend device: its own memory pools, streams, captures, graphs and dispatch.

:func:`start` gives the ``cupy`` module of the wheel, in a process of its own: what it asks of the
CUDA driver, of the runtime and of cuBLAS is answered from host memory (``device.cpp``), and each
kernel, CuPy's own too, is compiled by a C++ compiler from the very source that goes to NVRTC, and
run on the CPU (``kernels.h``).

The driver is a library of that name, which is loaded first. The runtime is linked into CuPy, and
cuBLAS has hundreds of functions, so there a jump is written over the start of each function that is
answered here; any other fails, as it does without a device.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import mmap
import os
import platform
import re
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from tests.support.shim import HEADER, compiler

#: The version that the answers were written for, beside its source.
VERSION = "14.2."
HERE = Path(__file__).parent
KERNEL = re.compile(r'extern "C"\s+__global__\s+(?:__\w+__\(.*?\)\s+)*void\s+(?:\w+\s+)*(\w+)\s*\(')
#: A kernel with any of these in its own text has threads that wait for each other.
WAITS = ("__sync", "__shfl", "_barrier", "_sdata")
COMMON = ("-std=c++17", "-fPIC", "-shared", "-fvisibility=hidden", "-U_FORTIFY_SOURCE", "-w")
#: As the tests of kernels compile them.
KERNEL_FLAGS = (*COMMON, "-O1", "-ffp-contract=off")
KERNEL_HEADERS = (HERE / "kernels.h", HEADER)
FOLDERS = tuple(f"-I{folder}" for folder in (HERE / "headers", HERE, HEADER.parent))
#: Loaded before CuPy looks for them, which it does not in a folder that a ``.pth`` file names.
LIBRARIES = ("libnvrtc.so.*", "libcublasLt.so.*", "libcublas.so.*", "libcudart.so.*")

#: CuPy's own way to NVRTC, once this process has started.
nvrtc: list[Callable[..., Any]] = []


def missing() -> str:
    """Why there can be no pretend device here; empty where there can."""
    if platform.machine() != "x86_64" or platform.system() != "Linux":
        return "the pretend device is for Linux on x86_64"
    if importlib.util.find_spec("cupy") is None:
        return "CuPy is not installed: pip install 'cupy-cuda13x[ctk]'"
    if compiler() is None:
        return "no C++ compiler (g++, c++, clang++ or $CXX)"
    if not toolkit("libnvrtc.so.*"):
        return "NVIDIA's libraries are not installed: pip install 'cupy-cuda13x[ctk]'"
    return ""


def toolkit(pattern: str, folder: str = "lib") -> list[Path]:
    """Files of NVIDIA's wheels."""
    spec = importlib.util.find_spec("nvidia")
    roots = [] if spec is None else list(spec.submodule_search_locations or ())
    return [path for root in roots for path in sorted(Path(root).glob(f"*/{folder}/{pattern}"))]


def start() -> Any:
    """The ``cupy`` module of this process, on the pretend device. Call it before any import of it.

    Raises :class:`RuntimeError` where :func:`missing` says why.
    """
    if said := missing():
        raise RuntimeError(said)
    os.environ["CUPY_CACHE_IN_MEMORY"] = "1"  # what is compiled here is for no other process
    os.environ["CUPY_ACCELERATORS"] = ""  # CUB's reductions are compiled for a device already
    os.environ.setdefault("CUDA_PATH", str(toolkit("cuda.h", "include")[0].parents[1]))
    libraries = {pattern: ctypes.CDLL(str(toolkit(pattern)[0])) for pattern in LIBRARIES}
    device = ctypes.CDLL(str(built_device()))
    from cupy_backends.cuda.api import runtime

    answered = dict(functions_of(built_device(), "cu"))
    for name, address in functions_of(Path(runtime.__file__), "cuda", JUMP):
        if name in answered:
            jump(loaded_at(Path(runtime.__file__)) + address, of(device, name))
    for name in answered:
        if name.startswith("cublas"):
            jump(of(libraries["libcublas.so.*"], name), of(device, name))
    import cupy
    from cupy.cuda import compiler as cupys

    if not cupy.__version__.startswith(VERSION):
        raise RuntimeError(f"CuPy is {cupy.__version__}; the pretend device is for {VERSION}x")
    nvrtc.append(cupys._compile_using_nvrtc_no_warning)
    cupys._compile_using_nvrtc_no_warning = compile_here
    return cupy


def counts() -> dict[str, int]:
    """What the device has done so far."""
    device = ctypes.CDLL(str(built_device()))
    device.pretend_count.restype = ctypes.c_long
    device.pretend_used.restype = ctypes.c_size_t
    names = ("launches", "graph_launches", "graphs", "nodes", "allocations")
    found = {name: int(device.pretend_count(which)) for which, name in enumerate(names)}
    return found | {"used": int(device.pretend_used())}


def of(library: ctypes.CDLL, name: str) -> int:
    """The address of a function that a library exports."""
    return int(ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0)


def loaded_at(path: Path) -> int:
    """Where this process has a library."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        if line.endswith(str(path.resolve())):
            return int(line.split("-")[0], 16)
    raise RuntimeError(f"{path} is not loaded")


def functions_of(path: Path, prefix: str, least: int = 0) -> Iterator[tuple[str, int]]:
    """Functions and their offsets, from the symbols of a library for 64 bits (ELF)."""
    data = path.read_bytes()
    (table,), (size, number) = (
        struct.unpack_from("<Q", data, 40),
        struct.unpack_from("<HH", data, 58),
    )
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, table + n * size) for n in range(number)]
    for _, kind, _, _, offset, length, link, *_ in sections:
        if kind != 2:  # SHT_SYMTAB
            continue
        names = sections[link][4]
        for place in range(offset, offset + length, 24):
            name, info, _, index, value, extent = struct.unpack_from("<IBBHQQ", data, place)
            if info & 15 == 2 and index and extent >= least:
                text = data[names + name : data.index(b"\0", names + name)].decode()
                if text.startswith(prefix):
                    yield text, value


#: Bytes of a jump: ``jmp [rip]``, and the address.
JUMP = 14


def jump(at: int, to: int) -> None:
    """Write a jump over the start of a function."""
    libc = ctypes.CDLL(None, use_errno=True)
    begin = at // mmap.PAGESIZE * mmap.PAGESIZE
    length = at + JUMP - begin
    if libc.mprotect(ctypes.c_void_p(begin), ctypes.c_size_t(length), 7):
        raise OSError(ctypes.get_errno(), "the code of a library cannot be written to")
    code = b"\xff\x25\0\0\0\0" + struct.pack("<Q", to)
    ctypes.memmove(at, code, len(code))


@lru_cache(maxsize=1)
def built_device() -> Path:
    """The pretend driver, compiled."""
    include = toolkit("cuda.h", "include")[0].parent
    flags = (*COMMON, "-O2", "-Wl,-soname,libcuda.so.1", *FOLDERS, f"-isystem{include}")
    return built((HERE / "device.cpp").read_text("utf-8"), flags, "-ldl")


def compile_here(source: str, options: tuple[str, ...] = (), *_: Any, **__: Any) -> Any:
    """In the place of NVRTC: the path of a library with these kernels, and no names."""
    folders = [word for word in options if word.startswith("-I")]
    macros = [word for word in options if word.startswith("-D")]
    flags = (*KERNEL_FLAGS, f"-I{prelude(tuple(folders))}", *FOLDERS, *folders, *macros)
    text = f'#include "kernels.h"\n{source}\n'
    return str(built(text, flags, exports=exported)).encode() + b"\0", None


def exported(source: str, flags: tuple[str, ...]) -> str:
    """The kernels that are left of a source once its conditions are decided, for its end."""
    names = KERNEL.findall(source)
    if len(names) > 1:
        command = [str(compiler()), *flags, "-x", "c++", "-E", "-"]
        done = subprocess.run(command, input=source, capture_output=True, text=True, check=True)
        names = [name for name in names if re.search(rf"void\s+{name}\s*\(", done.stdout)]
    if not any(word in source for word in WAITS):
        return "".join(f"PRETEND_EACH({name})\n" for name in names)
    cluster = dict(flag.split("=") for flag in flags if "=" in flag).get("-DCLUSTER", "1")
    return "".join(f"PRETEND_CLUSTER({name}, {cluster})\n" for name in names)


@lru_cache(maxsize=4)
def prelude(folders: tuple[str, ...]) -> Path:
    """A folder with ``kernels.h`` compiled ahead, which is half of the work for a small kernel."""
    flags = (*KERNEL_FLAGS, *FOLDERS, *folders, "-x", "c++-header")
    made = built((HERE / "kernels.h").read_text("utf-8"), flags)
    folder = made.with_suffix(".d")
    folder.mkdir(exist_ok=True)
    header = folder / "kernels.h.gch"
    if not header.exists():
        with suppress(FileExistsError):
            os.link(made, header)
    return folder


def built(
    source: str, flags: tuple[str, ...], *after: str,
    exports: Callable[[str, tuple[str, ...]], str] | None = None,
) -> Path:  # fmt: skip
    """A library, compiled once and kept; of kernels, ``exports`` says what stands at the end."""
    read = KERNEL_HEADERS if exports else sorted(HERE.glob("*.h"))
    texts = [file.read_text("utf-8") for file in read]
    content = "\0".join([source, cxx := str(compiler()), *flags, *texts])
    name = hashlib.blake2b(content.encode(), digest_size=12).hexdigest()
    folder = Path(tempfile.gettempdir()) / f"npnlp-pretend-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    library = folder / f"{name}.so"
    if not library.exists():
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            text, made = Path(scratch) / "source.cpp", Path(scratch) / "made.so"
            text.write_text(source + (exports(source, flags) if exports else ""), "utf-8")
            command = [cxx, *flags, str(text), "-o", str(made), *after]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(done.stderr[:4000])
            made.replace(library)
    return library
