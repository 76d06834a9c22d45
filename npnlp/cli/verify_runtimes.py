"""``npnlp verify --runtime``: an ONNX file in other programs, against npnlp's probabilities."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from npnlp.checks import require_whole
from npnlp.classifier.classifier import Classifier
from npnlp.errors import InputError, require_known
from npnlp.exchange.runtimes.comparison import (
    ALL,
    BOUND,
    NAMES,
    batches_of,
    compare,
    installed,
    require_installed,
)


def in_runtimes(
    path: Path, classifier: Classifier, texts: Sequence[str], options: argparse.Namespace
) -> int:
    """A line a runtime; status 1 where one answers otherwise than npnlp."""
    if options.runtime == ALL:
        runtimes = [name for name in NAMES if installed(name)]
    else:
        require_known("runtime", options.runtime, (*NAMES, ALL))
        require_installed(options.runtime)
        runtimes = [options.runtime]
    if not runtimes:
        raise InputError("runtime all: none is installed; pip install onnxruntime")
    require_whole("names", options.names)
    step = max(1, len(texts) // options.names)
    batches = batches_of(classifier, texts[::step][: options.names])
    print(f"{path}: probabilities against npnlp's, {len(batches[0].lengths)} names at "
          "once, five, one, one of one letter and one of 40\n")  # fmt: skip
    found = []
    for runtime in tqdm(runtimes, disable=None, leave=False, unit="runtime"):
        found.append(compare(path, runtime, batches))
        each = found[-1]
        said = f"refused: {each.refused}"
        if not each.refused:
            said = f"{each.difference:.0e}  {'WRONG' if each.wrong else 'right'}"
        tqdm.write(f"{f'{each.runtime} {each.version}':<34}{said}", file=sys.stdout)
    wrong = sum(each.wrong for each in found)
    print(f"\nbound {BOUND:.0e}; " + (f"{wrong} WRONG" if wrong else "no wrong answer"))
    return 1 if wrong else 0
