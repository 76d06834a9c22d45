"""Every way in which CuPy can be half-installed gives one line with the fix.

The texts were captured from CuPy 14.2.0 (wheels for CUDA 12 and 13): without a driver, with parts
of it taken away, and with stand-ins for ``libcuda.so.1`` whose ``cuInit`` and
``cuDriverGetVersion`` answered as an old, a missing, a full or a mismatched device does.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from npnlp.backend import Backend, get_backend
from npnlp.backend.cuda.why_not import Facts, diagnose
from npnlp.cli import backends as command
from npnlp.errors import DeviceError
from tests.backend.test_backends import NO_DEVICE, run_with_cupy

CUDA13 = Facts("14.2.0", driver=13020, runtime=13020, wheels=("cupy-cuda13x",))
CUDA12 = Facts("14.2.0", driver=12090, runtime=12090, wheels=("cupy-cuda12x",))
PAGE = """
================================================================
Failed to import CuPy.

If you installed CuPy via wheels (cupy-cudaXXX or cupy-rocm-X-X), make sure that the package matches with the version of CUDA or ROCm installed.

Original error:
  ModuleNotFoundError: No module named 'cupy_backends.cuda.api.runtime'
================================================================
"""  # noqa: E501
INSUFFICIENT = (
    "cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version"
)
MISSING = 'Failure finding "lib{0}.so.13 or lib{0}.so.12": No such file: lib{0}.so.13'


class CUDARuntimeError(RuntimeError):
    """Named as CuPy's."""


class OutOfMemoryError(MemoryError):
    """Named as CuPy's."""


class CompileException(Exception):
    """Named as CuPy's."""


class CUBLASError(RuntimeError):
    """Named as CuPy's."""


class DynamicLibNotFoundError(RuntimeError):
    """Named as that of CuPy's cuda.pathfinder."""


def facts(**changed: Any) -> Facts:
    return Facts(**{**vars(CUDA13), **changed})


CASES: dict[str, tuple[BaseException, Facts, str, str]] = {
    "not installed": (
        ModuleNotFoundError("No module named 'cupy'", name="cupy"), Facts(),
        "cupy is not installed", "pip install 'cupy-cuda13x[ctk]' (or 'cupy-cuda12x[ctk]')",
    ),
    "empty folder": (
        AttributeError("module 'cupy' has no attribute '__version__'"), Facts(),
        "a folder called cupy is found, but CuPy is not in it", "remove it and pip install",
    ),
    "part missing": (
        ImportError(PAGE), facts(cupy=""),
        "cannot be imported (ModuleNotFoundError: No module named 'cupy_backends.cuda.api.runt",
        "pip install --force-reinstall 'cupy-cuda13x[ctk]'",
    ),
    "no driver": (
        CUDARuntimeError(INSUFFICIENT), facts(driver=0),
        "there is no NVIDIA driver", "install one, so that nvidia-smi lists the device",
    ),
    "driver too old": (
        CUDARuntimeError(INSUFFICIENT), facts(driver=11040),
        "the NVIDIA driver is too old: it supports CUDA 11.4, CuPy 14.2.0 needs 13.2",
        "update the driver, or use",
    ),
    "wheel for another CUDA": (
        CUDARuntimeError(INSUFFICIENT), facts(driver=12080),
        "it supports CUDA 12.8, CuPy 14.2.0 needs 13.2",
        "pip uninstall cupy-cuda13x, then pip install 'cupy-cuda12x[ctk]'",
    ),
    "two wheels": (
        CUDARuntimeError(INSUFFICIENT),
        facts(driver=12080, wheels=("cupy-cuda12x", "cupy-cuda13x")),
        "too old", "pip uninstall cupy-cuda12x cupy-cuda13x, then pip install 'cupy-cuda12x[ctk]'",
    ),
    "two wheels, no driver": (
        CUDARuntimeError(INSUFFICIENT),
        facts(driver=0, wheels=("cupy-cuda12x", "cupy-cuda13x")),
        "there is no NVIDIA driver", "install one",
    ),
    "no NVRTC": (
        DynamicLibNotFoundError(MISSING.format("nvrtc")), CUDA13,
        "does not find CUDA's libnvrtc (Failure finding", "pip install 'cupy-cuda13x[ctk]>=14'",
    ),
    "no NVRTC, CUDA 12": (
        DynamicLibNotFoundError(MISSING.format("nvrtc")), CUDA12,
        "does not find CUDA's libnvrtc", "pip install 'cupy-cuda12x[ctk]>=14'",
    ),
    "no cuBLAS": (
        ImportError(MISSING.format("cublasLt")), CUDA13,
        "does not find CUDA's libcublasLt", "pip install 'cupy-cuda13x[ctk]>=14'",
    ),
    "no device": (
        CUDARuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected"), CUDA13,
        "no CUDA device is usable (cudaErrorNoDevice: no CUDA-capable device is detected)",
        "check that nvidia-smi lists a device",
    ),
    "device hidden": (
        CUDARuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected"),
        facts(visible=""),
        "no CUDA device is usable", "CUDA_VISIBLE_DEVICES is '': unset it",
    ),
    "no headers": (
        RuntimeError(
            "Failed to find CUDA headers. Please install CUDA toolkit headers (e.g., pip install "
            "cupy-cuda12x[ctk]) or specify CUDA_PATH environment variable."
        ), CUDA13, "does not find CUDA's headers", "pip install 'cupy-cuda13x[ctk]>=14'",
    ),
    "no headers, CUDA 12": (
        RuntimeError("Failed to find CUDA headers. Please install CUDA toolkit headers"), CUDA12,
        "does not find CUDA's headers", "pip install 'cupy-cuda12x[ctk]>=14'",
    ),
    "card too old to compile for": (
        CompileException("nvrtc: error: invalid value for --gpu-architecture (-arch)"),
        facts(compute=70),
        "is for CUDA 13, which has no code for this device of compute capability 7.0 (below 7.5)",
        "take the wheel for CUDA 12: pip uninstall cupy-cuda13x, then pip install "
        "'cupy-cuda12x[ctk]'",
    ),
    "card too old for cuBLAS, two wheels": (
        CUBLASError("CUBLAS_STATUS_ARCH_MISMATCH"),
        facts(compute=61, wheels=("cupy-cuda12x", "cupy-cuda13x")),
        "compute capability 6.1", "pip install 'cupy-cuda12x[ctk]'",
    ),
    "card too new for CuPy": (
        CompileException("nvrtc: error: invalid value for --gpu-architecture (-arch)"),
        facts(compute=130),
        "do not fit this device", "pip install --force-reinstall 'cupy-cuda13x[ctk]'",
    ),
    "cuBLAS has no memory": (
        CUBLASError("CUBLAS_STATUS_ALLOC_FAILED"), CUDA13,
        "the CUDA device is out of memory", "nvidia-smi lists who holds it",
    ),
    "driver full": (
        CUDARuntimeError("cudaErrorMemoryAllocation: out of memory"), CUDA13,
        "the CUDA device is out of memory", "nvidia-smi lists who holds it",
    ),
    "device full": (
        OutOfMemoryError(
            "Out of memory allocating 1,000,000,000 bytes (allocated so far: 3,000,000,000 bytes)."
        ), CUDA13,
        "out of memory (Out of memory allocating 1,000,000,000 bytes", "CUDA_VISIBLE_DEVICES",
    ),
    "driver updated": (
        CUDARuntimeError(
            "cudaErrorSystemDriverMismatch: system has unsupported display driver / cuda driver "
            "combination"
        ), CUDA13, "cudaErrorSystemDriverMismatch", "restart",
    ),
    "stub": (
        CUDARuntimeError("cudaErrorStubLibrary: CUDA driver is a stub library"), CUDA13,
        "cudaErrorStubLibrary", "LD_LIBRARY_PATH",
    ),
    "unknown": (
        CUDARuntimeError("cudaErrorUnknown: unknown error"), CUDA13,
        "no CUDA device is usable (cudaErrorUnknown: unknown error)", "nvidia-smi",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_half_installed_cupy_is_one_line_with_the_fix(
    case: tuple[BaseException, Facts, str, str],
) -> None:
    error, known, what, fix = case
    line = diagnose(error, known)
    assert line.startswith("backend cupy: ")
    assert line.endswith(", or use --backend numpy")
    assert "\n" not in line
    said, mended = line.split("; ", 1)
    assert what in said
    assert fix in mended


def test_an_error_without_a_text_is_named() -> None:
    assert "(KeyError)" in diagnose(KeyError(), CUDA13)


def test_facts_are_gathered_without_cupy_and_from_one_that_does_not_answer() -> None:
    assert Facts.gather().cupy == ""
    assert Facts.gather(sys).driver is None


def test_backends_says_what_is_missing_and_ends_well(tmp_path: Path) -> None:
    done = run_with_cupy(NO_DEVICE, tmp_path, "backends")
    assert (done.returncode, done.stderr) == (0, "")
    works, broken, _ = done.stdout.splitlines()
    assert works.startswith("numpy  works: numpy ")
    assert works.endswith(" s)")
    assert broken.startswith("cupy   not usable: CuPy 14.0.0 is installed but no CUDA device")
    assert "use --backend numpy" in broken


def test_a_folder_that_is_no_cupy_ends_training_with_its_line(tmp_path: Path) -> None:
    done = run_with_cupy("", tmp_path, "train", "--backend", "cupy", "--save-dir", "run")
    assert done.returncode == 2
    assert "a folder called cupy is found, but CuPy is not in it; remove it" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_working_backend_is_shown_with_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    class Shown:
        def describe(self) -> dict[str, str]:
            return {"backend": "cupy", "cupy": "14.2.0", "device": "H", "compute_capability": "9.0"}

        def memory(self) -> tuple[int, int]:
            return 3 * 2**30, 4 * 2**30

    monkeypatch.setattr(command, "get_backend", lambda name: Shown())
    said = "works: cupy 14.2.0, device H, compute capability 9.0, memory 3.0 of 4.0 GiB free"
    assert command.verdict_on("cupy") == said


def test_numpys_memory_is_that_of_the_system() -> None:
    memory = get_backend("numpy").memory()
    if memory is not None:
        assert 0 < memory[0] <= memory[1]


def test_a_backend_that_was_asked_for_and_is_not_usable_raises(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(name: str) -> Backend:
        raise DeviceError("backend cupy: the CUDA device is out of memory; free some")

    monkeypatch.setattr(command, "get_backend", fails)
    assert command.verdict_on("cupy") == "not usable: the CUDA device is out of memory; free some"
