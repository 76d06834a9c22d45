"""An ONNX file in each runtime, against the probabilities that npnlp computes.

Every runtime gets the same batches: names of unequal length, of one letter, and of 40. It computes
all of them within :data:`BOUND`, or refuses the file, or is wrong.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from npnlp.classifier.classifier import Classifier
from npnlp.errors import InputError
from npnlp.exchange.differences import own_logits, padded
from npnlp.exchange.runtimes.engines import ENGINES
from npnlp.exchange.runtimes.processes import WEB, Batch, in_node, in_python, web_version
from npnlp.layers.loss import softmax

#: Of a probability.
BOUND = 1e-5
ALL = "all"
NAMES = (*ENGINES, WEB)


class Found(NamedTuple):
    """What a runtime made of a file: the largest ``difference``, or why it ``refused``."""

    runtime: str
    version: str
    difference: float | None = None
    refused: str = ""

    @property
    def wrong(self) -> bool:
        """Whether it answered otherwise than npnlp, which a NaN does, too."""
        return self.difference is not None and not self.difference <= BOUND


def installed(runtime: str) -> str:
    """The version of a runtime, or an empty string where it is not installed."""
    if runtime == WEB:
        return web_version()
    try:
        return version(ENGINES[runtime].package)
    except PackageNotFoundError:
        return ""


def require_installed(runtime: str) -> str:
    """The version of a runtime; raises :class:`InputError` where it is missing."""
    there = installed(runtime)
    if not there:
        remedy = (
            f"npm install {WEB}, in this folder"
            if runtime == WEB
            else f"pip install {ENGINES[runtime].package}"
        )
        raise InputError(f"runtime {runtime}: it is not installed; {remedy}")
    return there


def batches_of(classifier: Classifier, names: Sequence[str]) -> list[Batch]:
    """All ``names`` at once, five of them, one of them, one of one letter and one of 40."""
    long = "".join(names).replace(" ", "")[:40]
    sets = [list(names), list(names[:5]), [names[0]], [names[0][0]], [long]]
    return [_batch(classifier, each) for each in sets]


def _batch(classifier: Classifier, names: Sequence[str]) -> Batch:
    tokens, lengths = padded(classifier.vectorizer, names)
    return Batch(tokens, lengths, softmax(own_logits(classifier.model, tokens, lengths), np))


def compare(path: Path, runtime: str, batches: Sequence[Batch]) -> Found:
    """Run the file on the batches; raises :class:`InputError` where the runtime is missing."""
    there = require_installed(runtime)
    with TemporaryDirectory() as name:
        own = Path(name) / "model.onnx"  # some runtimes write beside the file
        shutil.copyfile(path, own)
        if runtime == WEB:
            answers, refused = in_node(own, batches)
        else:
            answers, refused = in_python(runtime, own, batches)
    if refused:
        return Found(runtime, there, refused=refused)
    apart = [_apart(answer, batch) for answer, batch in zip(answers, batches, strict=True)]
    return Found(runtime, there, float(np.max(apart)))


def _apart(answer: NDArray[Any], batch: Batch) -> float:
    if answer.size != batch.expected.size:
        return float("nan")
    return float(np.abs(answer.reshape(batch.expected.shape) - batch.expected).max())
