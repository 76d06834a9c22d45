"""What is written when a run is done: ``metrics.json``, the model card and the CSV files."""

from __future__ import annotations

import platform
from collections.abc import Mapping

import numpy as np

from npnlp.backend import Backend
from npnlp.classifier.evaluation import Evaluation
from npnlp.classifier.flow import write_flow
from npnlp.classifier.inspection import RELIABILITY, probability_scores, reliability_rows
from npnlp.files import write_json, write_table
from npnlp.runs.card import write_card
from npnlp.runs.run import Run
from npnlp.version import __version__


def environment(backend: Backend) -> dict[str, str]:
    """The versions and the machine that figures were made with."""
    return {
        "npnlp": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        **backend.describe(),
    }


def write_report(run: Run, evaluations: Mapping[str, Evaluation]) -> None:
    """Write the files; ``evaluations`` are those of :meth:`Run.evaluate`."""
    made_with = environment(run.trainer.model.backend)
    if run.trainer.ranks.size > 1:
        made_with["ranks"] = str(run.trainer.ranks.size)
    with run.lock:
        run.lock.require()
        _write_metrics(run, evaluations, made_with)
        rows_of_bins = reliability_rows(*evaluations["test"].outcomes)
        write_table(run.save_dir / "reliability.csv", RELIABILITY, rows_of_bins)
        run.trainer.progress.history.write_csv(run.save_dir / "history.csv")
        write_flow(run.save_dir / "gradient_flow.csv", run.trainer.flow, run.trainer.flow_layers)
        write_card(run.save_dir / "MODEL_CARD.md", run, evaluations, made_with)
        names = run.dataset.get_vectorizer().nationality_vocab.tokens
        counts = evaluations["test"].confusion.tolist()
        rows = [[true, *row] for true, row in zip(names, counts, strict=True)]
        write_table(
            run.save_dir / "confusion_matrix.csv", [f"true {run.audit['label']}", *names], rows
        )


def _write_metrics(
    run: Run, evaluations: Mapping[str, Evaluation], made_with: dict[str, str]
) -> None:
    trainer, history = run.trainer, run.trainer.progress.history
    write_json(
        run.save_dir / "metrics.json",
        {
            **{
                split: {**found.metrics, **probability_scores(found.outcomes[-1])}
                for split, found in evaluations.items()
            },
            "timing": {
                "train_names_per_second": float(
                    np.median([row["names_per_second"] for row in history])
                ),
                "train_seconds": sum(row["seconds"] for row in history),
                "epochs": len(history),
                "best_epoch": trainer.progress.best_epoch,
            },
            "data": run.audit,
            "temperature": run.temperature,
            "model": trainer.model.config.to_dict(),
            "training": vars(trainer.config),
            "environment": made_with,
            "computed_on": trainer.progress.computed_on,
        },
    )
