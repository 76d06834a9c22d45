"""Packages that the exchange needs and the rest of npnlp does not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from npnlp.errors import InputError

PACKAGES = ("torch", "onnx", "onnxruntime")


@contextmanager
def needs(purpose: str) -> Iterator[None]:
    """Around an import: an :class:`InputError` with the remedy where a package is missing."""
    try:
        yield
    except ImportError as error:
        package = (error.name or "").partition(".")[0]
        if package not in PACKAGES:
            raise
        if not isinstance(error, ModuleNotFoundError):
            raise InputError(f"{purpose} needs {package}, which does not load: {error}") from error
        raise InputError(
            f"{purpose} needs {package}, which is not installed; run pip install {package}"
        ) from error
