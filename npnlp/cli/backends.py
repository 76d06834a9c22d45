"""``npnlp backends``: what can compute here, what not, and what to do about it."""

from __future__ import annotations

import argparse
import time

from npnlp.backend import get_backend
from npnlp.errors import DeviceError

HELP = "show which backends work here"
DESCRIPTION = (
    "Try every backend with a computation, and say what came of it: versions, the device and its "
    "memory where it works, and where it does not the reason and the fix."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """None of its own."""


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    for name in ("numpy", "cupy", "numba"):
        started = time.perf_counter()
        verdict = verdict_on(name)
        print(f"{name:<6} {verdict} ({time.perf_counter() - started:.2f} s)")
    return 0


def verdict_on(name: str) -> str:
    """Whether the backend works here, in one line."""
    try:
        backend = get_backend(name)
        described = backend.describe()
        memory = backend.memory()
    except DeviceError as error:
        return f"not usable: {str(error).removeprefix(f'backend {name}: ')}"
    described.pop("backend")
    said = [f"{key.replace('_', ' ')} {value}" for key, value in described.items()]
    if memory is not None:
        free, total = (size / 2**30 for size in memory)
        said.append(f"memory {free:.1f} of {total:.1f} GiB free")
    return "works: " + ", ".join(said)
