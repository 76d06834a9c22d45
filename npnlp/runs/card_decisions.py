"""What a model card says of thresholds and sets: found on val, measured on test."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from npnlp.classifier.calibration import Calibration
from npnlp.classifier.decision import Decision
from npnlp.classifier.inspection import logits_of
from npnlp.errors import InputError
from npnlp.files import markdown_table
from npnlp.layers import softmax
from npnlp.runs.run import Run

PRECISIONS, LEVELS = (0.9, 0.95, 0.99), (0.8, 0.9, 0.95)
NONE = (
    "No rows, or fewer than 100, were held out to find thresholds by: `--precision` and `--sets` "
    "are refused for this model."
)


def decisions(run: Run) -> str:
    """Both tables, of the test rows."""
    held = run.calibration
    if held is None:
        return NONE
    test = run.dataset.arrays("test")
    p = softmax(logits_of(run.trainer.model, test).astype(np.float64), np)
    answers = markdown_table(
        ["`--precision`", "probability at least", "test names answered", "of them right"],
        list(_thresholds(held, p, test.targets)),
    )
    sets = markdown_table(
        ["`--sets`", "sets that hold the truth", "mean size", "of one class"],
        list(_sets(held, p, test.targets)),
    )
    return (
        f"Thresholds and bounds were found on {len(held.target):,} rows of val; these are the "
        f"figures of test.\n\n{answers}\n\n{sets}"
    )


def _thresholds(
    held: Calibration, p: NDArray[np.float64], targets: NDArray[np.int64]
) -> Iterator[list[str]]:
    confidence, right = p.max(axis=1), p.argmax(axis=1) == targets
    for precision in PRECISIONS:
        try:
            least = Decision(precision=precision).least(held)
        except InputError:
            yield [f"{precision}", "none gave it on val", "–", "–"]
            continue
        answered = confidence >= least
        of_them = f"{right[answered].mean():.4f}" if answered.any() else "–"
        yield [f"{precision}", f"{least:.4f}", f"{answered.mean():.4f}", of_them]


def _sets(
    held: Calibration, p: NDArray[np.float64], targets: NDArray[np.int64]
) -> Iterator[list[str]]:
    for level in LEVELS:
        sets = Decision(sets=level).sets_of(p, held)
        covered = np.mean([y in each for y, each in zip(targets.tolist(), sets, strict=True)])
        sizes = np.array([len(each) for each in sets])
        yield [f"{level}", f"{covered:.4f}", f"{sizes.mean():.2f}", f"{(sizes == 1).mean():.4f}"]
