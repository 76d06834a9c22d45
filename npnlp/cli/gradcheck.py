"""``npnlp gradcheck``: every hand-written gradient against a numerical one."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np

from npnlp.backend import Backend, Random, get_backend
from npnlp.cli.options import add_backend
from npnlp.gradients import GradientReport, check_gradients
from npnlp.gradients.cases import LENGTHS, layer_reports
from npnlp.layers import Packing
from npnlp.models import ClassifierConfig, SurnameClassifier

HELP = "check every gradient"
DESCRIPTION = (
    "Compare every hand-written gradient with a numerical one, in float64. Status 1 if one fails."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("--seed", type=int, default=0, help="of weights and inputs")
    add_backend(parser)


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    backend = get_backend(options.backend)
    print(f"{'layer':<30} {'parameter':<18} {'method':<8} {'error':>8}  {'at index':<10}")
    reports = []
    for report in all_reports(backend, options.seed):
        reports.append(report)
        for row in report.rows:
            failed = f"FAILED, bound {row.bound:.0e}; {row.reason}".rstrip("; ")
            verdict = "ok" if row.passed else failed
            print(
                f"{report.layer:<30} {row.quantity:<18} {row.method:<8} {row.error:>8.1e}  "
                f"{row.index!s:<10} {verdict}"
            )
    broken = [report.layer for report in reports if not report.passed]
    checks = sum(len(report.rows) for report in reports)
    print(f"\n{checks} checks; " + (f"FAILED: {', '.join(broken)}" if broken else "all passed"))
    return 1 if broken else 0


def all_reports(backend: Backend, seed: int) -> Iterator[GradientReport]:
    """Every layer, and the whole classifier with dropout on and off."""
    yield from layer_reports(backend, seed)
    random = Random(seed, "gradcheck.classifier")
    packing = Packing.of(LENGTHS, backend)
    tokens = backend.asarray(1 + random.child("tokens").permutation(packing.rows) % 6)
    config = ClassifierConfig(num_embeddings=7, num_classes=5, embedding_size=4, rnn_hidden_size=6)
    model = SurnameClassifier(config, backend=backend, dtype=np.float64, random=random)
    yield check_gradients(model, tokens, packing=packing, random=random)
    yield check_gradients(model, tokens, packing=packing, name="SurnameClassifier, evaluation")
