"""Why CuPy does not work, in one line with the fix.

An incomplete installation of CuPy can fail at the import, the first call of the driver, the first
compilation or the first matrix product. :func:`diagnose` turns the error, and the facts about the
installation, into one line.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from npnlp.optional import cause_of, one_line

INSTALL = "pip install 'cupy-cuda13x[ctk]' (or 'cupy-cuda12x[ctk]')"
#: The original error in CuPy's long message about a failed import.
ORIGINAL = re.compile(r"Original error:\s*(.+)")
#: The oldest compute capability that CUDA 13 has code for.
OLDEST_OF_13 = 75
NO_MEMORY = ("cudaErrorMemoryAllocation", "CUBLAS_STATUS_ALLOC_FAILED")
NO_CODE = ("NoKernelImage", "UnsupportedPtx", "gpu-architecture", "CUBLAS_STATUS_ARCH_MISMATCH")
LIBRARY = re.compile(
    r"lib(?P<name>nvrtc|cublas|cublasLt|cudart|curand|cusolver|cusparse|nvJitLink)\b[.\w]*"
)


@dataclass(frozen=True)
class Facts:
    """Facts about the installation; versions in CUDA's form, 13020 for 13.2.

    ``driver`` is the newest CUDA that the driver supports, 0 if there is no driver, None if that is
    unknown; ``runtime`` is the CUDA that CuPy was built for. ``compute`` is the device's compute
    capability, 75 for 7.5, None if that is unknown.
    """

    cupy: str = ""
    driver: int | None = None
    runtime: int | None = None
    wheels: tuple[str, ...] = ()
    visible: str | None = None
    compute: int | None = None

    @classmethod
    def gather(cls, cupy: Any = None) -> Facts:
        """From CuPy, if it could be imported, and the list of installed packages."""
        return cls(
            cupy=str(getattr(cupy, "__version__", "")),
            driver=_version(cupy, "driverGetVersion"),
            runtime=_version(cupy, "runtimeGetVersion"),
            wheels=tuple(sorted(_wheels())),
            visible=os.environ.get("CUDA_VISIBLE_DEVICES"),
            compute=_compute(cupy),
        )

    @property
    def too_old(self) -> bool:
        """Whether CUDA 13 has no code for the device."""
        return self.compute is not None and self.compute < OLDEST_OF_13

    @property
    def major(self) -> int:
        """The version of CUDA for packages to install: 12 or 13."""
        if self.too_old:
            return 12
        if self.driver:
            return 12 if self.driver < 13000 else 13
        return 12 if self.runtime is not None and self.runtime < 13000 else 13


def _version(cupy: Any, function: str) -> int | None:
    try:
        return int(getattr(cupy.cuda.runtime, function)())
    except Exception:
        return None


def _compute(cupy: Any) -> int | None:
    try:
        return int(cupy.cuda.Device().compute_capability)
    except Exception:
        return None


def _wheels() -> set[str]:
    known = (found.metadata for found in metadata.distributions())  # what is left of some has none
    names = (str(said["Name"]).lower() for said in known if "Name" in said)
    return {name for name in names if name == "cupy" or re.fullmatch(r"cupy-(cuda|rocm).*", name)}


def diagnose(error: BaseException, facts: Facts) -> str:
    """One line: what is wrong; what to do."""
    what, fix = _found(error, facts)
    if len(facts.wheels) > 1 and "pip " in fix:  # not for a driver or a full device
        fix = (
            "several CuPy packages are installed and break each other: pip uninstall "
            f"{' '.join(facts.wheels)}, then pip install 'cupy-cuda{facts.major}x[ctk]'"
        )
    return f"backend cupy: {what}; {fix}, or use --backend numpy"


def _found(error: BaseException, facts: Facts) -> tuple[str, str]:
    text, kind = one_line(error) or type(error).__name__, type(error).__name__
    reinstall = f"reinstall it: pip install --force-reinstall 'cupy-cuda{facts.major}x[ctk]'"
    if not facts.cupy:
        if "'cupy' has no attribute '__version__'" in text:
            return (
                "a folder called cupy is found, but CuPy is not in it",
                f"remove it and {INSTALL}",
            )
        cause, missing = cause_of(error, "cupy")
        if original := ORIGINAL.search(str(error)):
            cause = f"cupy is installed but cannot be imported ({original[1].strip()[:200]})"
        return cause, INSTALL if missing else reinstall
    cupy = f"CuPy {facts.cupy}"
    if "cudaErrorInsufficientDriver" in text:
        return _driver(cupy, facts)
    for code, fix in {
        "cudaErrorNoDevice": _visible(facts),
        "cudaErrorInvalidDevice": _visible(facts),
        "cudaErrorStubLibrary": "the toolkit's stub stands in for the driver: take its folder out "
        "of LD_LIBRARY_PATH",
        "cudaErrorSystemDriverMismatch": "the driver was updated under a running system: restart",
        "cudaErrorCompatNotSupportedOnDevice": "take CUDA's compat folder out of LD_LIBRARY_PATH, "
        "or update the driver",
        "cudaErrorDevicesUnavailable": "another process holds the device alone: end it (nvidia-smi "
        "lists it)",
    }.items():
        if code in text:
            return f"{cupy} is installed but no CUDA device is usable ({text})", fix
    if kind == "OutOfMemoryError" or any(code in text for code in NO_MEMORY):
        return (
            f"the CUDA device is out of memory ({text})",
            "free some (nvidia-smi lists who holds it), or name another device in "
            "CUDA_VISIBLE_DEVICES",
        )
    if any(code in text for code in NO_CODE):
        if facts.too_old and facts.runtime is not None and facts.runtime >= 13000:
            return _device_too_old(cupy, facts)
        return (
            f"{cupy} and its CUDA do not fit this device or its driver ({text})",
            f"update the driver, and {reinstall}",
        )
    library, ctk = LIBRARY.search(text), f"pip install 'cupy-cuda{facts.major}x[ctk]>=14'"
    if library and ("Failure finding" in text or "cannot open" in text or "not found" in text):
        where = text.split(": No such file")[0]  # without the list of searched folders
        return f"{cupy} does not find CUDA's lib{library['name']} ({where})", ctk
    if "cannot open source file" in text or "Failed to find CUDA headers" in text:
        return f"{cupy} does not find CUDA's headers ({text})", ctk
    return (
        f"{cupy} is installed but no CUDA device is usable ({text})",
        "check the driver with nvidia-smi",
    )


def _driver(cupy: str, facts: Facts) -> tuple[str, str]:
    if not facts.driver:
        return (
            f"{cupy} is installed but there is no NVIDIA driver",
            "install one, so that nvidia-smi lists the device (in a container: start it with "
            "--gpus all)",
        )
    what = (
        f"the NVIDIA driver is too old: it supports CUDA {_dotted(facts.driver)}, "
        f"{cupy} needs {_dotted(facts.runtime)}"
    )
    if facts.driver // 1000 == 12 and facts.runtime is not None and facts.runtime >= 13000:
        return what, f"update the driver, or {_wheel_for_12(facts)}"
    return what, "update the driver"


def _device_too_old(cupy: str, facts: Facts) -> tuple[str, str]:
    assert facts.compute is not None
    capability = f"{facts.compute // 10}.{facts.compute % 10}"
    what = (
        f"{cupy} is for CUDA 13, which has no code for this device of compute capability "
        f"{capability} (below {OLDEST_OF_13 // 10}.{OLDEST_OF_13 % 10})"
    )
    return what, _wheel_for_12(facts)


def _wheel_for_12(facts: Facts) -> str:
    wheels = " ".join(facts.wheels) or "cupy-cuda13x"
    return (
        f"take the wheel for CUDA 12: pip uninstall {wheels}, then pip install 'cupy-cuda12x[ctk]'"
    )


def _visible(facts: Facts) -> str:
    if facts.visible is not None:
        return (
            f"CUDA_VISIBLE_DEVICES is '{facts.visible}': unset it, or name a device that "
            "nvidia-smi lists"
        )
    return "check that nvidia-smi lists a device"


def _dotted(version: int | None) -> str:
    return "another" if version is None else f"{version // 1000}.{version % 1000 // 10}"
