"""Freeze small models, checkpoints and a replay in the format that this program writes.

    python tests/frozen/make_frozen.py

Made once for each format version, into a folder ``vN`` of its own; tests/runs/test_frozen.py reads
all of them and never runs this. A folder that is there is refused: what is frozen stays as it is.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from npnlp.backend import get_backend
from npnlp.backend.threads import one_blas_thread
from npnlp.diagnosis.finding import diagnose
from npnlp.diagnosis.replay import write_replay
from npnlp.files import write_atomic, write_json
from npnlp.files.tensors import FORMAT_VERSION
from npnlp.runs.checkpoint import save_checkpoint, settings_of
from npnlp.runs.report import environment
from npnlp.runs.run import Run
from npnlp.text import SurnameDataset
from npnlp.training.config import TrainingConfig

FOLDER = Path(__file__).parent / f"v{FORMAT_VERSION}"
NAMES = ("Ramini", "Vamov", "Namoto", "O'Néill", "Ng", "Żółć", "von der Heide")
SIZES = {"embedding_size": 6, "rnn_hidden_size": 8}
COURSE = {"num_epochs": 3, "learning_rate": 0.01, "batch_size": 16, "seed": 5}
#: By name, the fields of the model and those of the training, besides the two above.
MODELS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "elman": ({}, {}),
    "gru": ({"cell": "gru", "dropout": 0.1}, {"class_weights": "balanced", "clip_norm": 1.0}),
    "lstm": (
        {"cell": "lstm", "bidirectional": True, "num_layers": 2, "forget_bias": 1.0},
        {"schedule": "onecycle"},
    ),
    "transformer": (
        {"cell": "transformer", "num_heads": 2, "pooling": "attention", "rnn_dropout": 0.1},
        {"optimizer": "sgd", "momentum": 0.9},
    ),
    "ngrams": (
        {"cell": "gru", "pooling": "max+mean", "hidden_layer": False, "ngram_orders": [1, 2, 3],
         "ngram_size": 4, "char_dropout": 0.1},
        {"merge_repeats": True, "label_smoothing": 0.1, "consistency": 1.0, "weight_decay": 0.1,
         "prior_correction": 0.3, "bucket": 2},
    ),
}  # fmt: skip
#: The batch after which the checkpoint is taken: in the second epoch of three.
STOP = 4
ENDINGS = {
    "Italian": ("R", "ini", "etti"),
    "Russian": ("V", "ov", "enko"),
    "Japanese": ("N", "moto", "saki"),
}
STEMS = ("am", "bel", "cor", "dan", "er", "fas", "gal", "hus", "il", "jor")


class Stop(Exception):
    """Raised from ``on_batch`` where the checkpoint is taken."""


def table() -> str:
    """Sixty made-up rows: 14, 3 and 3 of each of three classes."""
    lines = ["nationality,split,surname"]
    for label, (letter, *endings) in ENDINGS.items():
        names = [f"{letter}{stem}{ending}" for stem in STEMS for ending in endings]
        splits = ["train"] * 14 + ["val"] * 3 + ["test"] * 3
        lines += [f"{label},{split},{name}" for split, name in zip(splits, names, strict=True)]
    return "\n".join([*lines, ""])


def make(name: str) -> Run:
    """The run of that name, before it begins."""
    shape, course = MODELS[name]
    dataset = SurnameDataset.load_dataset_and_make_vectorizer(FOLDER / "table.csv")
    config = TrainingConfig(**COURSE | course)
    return Run.make(dataset, config, SIZES | shape, get_backend("numpy"), FOLDER / name)


def freeze(name: str) -> dict[str, Any]:
    """Write the checkpoint of an unfinished run and the model it ends in; what is expected."""
    run = make(name)
    taken = 0

    def on_batch() -> None:
        nonlocal taken
        taken += 1
        if taken == STOP:
            raise Stop

    run.save_dir.mkdir()
    try:
        while True:
            run.trainer.run_epoch(on_batch)
    except Stop:
        save_checkpoint(run.checkpoint_file, run.trainer, settings_of(run.trainer, run.dataset))
    while not run.trainer.finished:
        run.trainer.run_epoch()
    run.trainer.finish()
    run.classifier.save(run.model_file)
    shape, course = MODELS[name]
    return {
        "shape": SIZES | shape,
        "config": COURSE | course,
        "probabilities": run.classifier.probabilities(NAMES).tolist(),
        "val_loss": [row["val_loss"] for row in run.trainer.progress.history],
    }


def freeze_replay() -> str:
    """Write a step with a weight that is not a number; what the replay says."""
    run = make("elman")
    run.trainer.model.parameters["rnn.weight_hh_l0"][2, 7] = np.nan
    replay = run.trainer.record(np.arange(16), "train", 1)
    write_replay(FOLDER / "replay.safetensors", replay)
    return str(diagnose(replay, get_backend("numpy")))


def main() -> int:
    """Make the folder of this format version."""
    if FOLDER.exists():
        print(f"{FOLDER} is there already, and stays as it is", file=sys.stderr)
        return 2
    FOLDER.mkdir()
    with one_blas_thread():
        write_atomic(FOLDER / "table.csv", table())
        make("elman").dataset.save_vectorizer(FOLDER / "vectorizer.json")
        expected = {
            "format_version": FORMAT_VERSION,
            "environment": environment(get_backend("numpy")),
            "names": NAMES,
            "replay": freeze_replay(),
            "models": {name: freeze(name) for name in MODELS},
        }
        write_json(FOLDER / "expected.json", expected)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
