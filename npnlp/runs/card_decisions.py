"""What a model card says of thresholds and sets: found on val, measured on test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from npnlp.classifier.calibration import Calibration
from npnlp.classifier.decision import Decision
from npnlp.classifier.evaluation import Evaluation
from npnlp.classifier.inspection import Outcomes, logits_by_batch
from npnlp.errors import InputError
from npnlp.files import markdown_table
from npnlp.layers import softmax
from npnlp.models import SurnameClassifier
from npnlp.runs.run import Run
from npnlp.text import SplitArrays

PRECISIONS, LEVELS = (0.9, 0.95, 0.99), (0.8, 0.9, 0.95)
NONE = (
    "No rows, or fewer than 100, were held out to find thresholds by: `--precision` and `--sets` "
    "are refused for this model."
)


def decisions(run: Run, evaluations: Mapping[str, Evaluation]) -> str:
    """Both tables, of the test rows."""
    held = run.calibration
    if held is None:
        return NONE
    test = evaluations["test"].outcomes[-1]
    answers = markdown_table(
        ["`--precision`", "probability at least", "test names answered", "of them right"],
        list(_thresholds(held, test)),
    )
    sets = markdown_table(
        ["`--sets`", "sets that hold the truth", "mean size", "of one class"],
        list(_sets(held, run.trainer.model, run.dataset.arrays("test"))),
    )
    return (
        f"Thresholds and bounds were found on {len(held.target):,} rows of val; these are the "
        f"figures of test.\n\n{answers}\n\n{sets}"
    )


def _thresholds(held: Calibration, test: Outcomes) -> Iterator[list[str]]:
    for precision in PRECISIONS:
        try:
            least = Decision(precision=precision).least(held)
        except InputError:
            yield [f"{precision}", "none gave it on val", "–", "–"]
            continue
        answered = test.confidence >= least
        of_them = f"{test.right[answered].mean():.4f}" if answered.any() else "–"
        yield [f"{precision}", f"{least:.4f}", f"{answered.mean():.4f}", of_them]


def _sets(held: Calibration, model: SurnameClassifier, test: SplitArrays) -> Iterator[list[str]]:
    bounds = [Decision(sets=level).bounds(held) for level in LEVELS]
    covered_at, sizes_at = np.empty((2, len(LEVELS), len(test)), dtype=np.int64)
    for rows, logits in logits_by_batch(model, test):
        p, places = softmax(logits.astype(np.float64), np), np.arange(len(rows))
        for covered, sizes, bound in zip(covered_at, sizes_at, bounds, strict=True):
            inside = p >= bound
            inside[places, p.argmax(axis=1)] = True
            covered[rows], sizes[rows] = inside[places, test.targets[rows]], inside.sum(axis=1)
    for level, covered, sizes in zip(LEVELS, covered_at, sizes_at, strict=True):
        yield [
            f"{level}",
            f"{covered.mean():.4f}",
            f"{sizes.mean():.2f}",
            f"{(sizes == 1).mean():.4f}",
        ]
