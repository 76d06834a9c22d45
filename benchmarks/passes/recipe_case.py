"""One measurement of a recipe, in a process of its own: an epoch, or the memory of a run.

``python -m passes.recipe_case epoch CSV BACKEND SEED`` prints a line of JSON once a trainer is
ready, and then, for each number of batches on standard input, the processor time of an epoch at the
pace of so many: the batches go on from where the last ones ended. It needs nothing of this
project but its library, so that ``--base`` may run it with another one.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import fields

from npnlp.backend import get_backend
from npnlp.classifier.building import make_classifier, model_settings
from npnlp.text import SurnameDataset
from npnlp.training.config import TrainingConfig
from npnlp.training.recipes import RECIPES
from npnlp.training.trainer import Trainer


class _Enough(Exception):
    """As many batches as were asked for are done."""


def trainer_of(recipe: str, csv: str, backend: str, seed: int) -> Trainer:
    """A trainer as ``npnlp train --recipe`` makes it, for more epochs than are measured."""
    settings = RECIPES[recipe]
    names = {field.name for field in fields(TrainingConfig)} - {"num_epochs"}
    config = {name: value for name, value in settings.items() if name in names}
    dataset = SurnameDataset.load_dataset_and_make_vectorizer(csv)
    model = make_classifier(dataset, model_settings(settings), get_backend(backend), seed)
    arrays = dataset.arrays("train"), dataset.arrays("val")
    return Trainer(model, *arrays, TrainingConfig(**config, seed=seed, num_epochs=1000))


def epoch_seconds(trainer: Trainer, batches: int) -> float:
    """Processor time of an epoch at the pace of so many batches, validation left out."""
    left, before = batches, time.process_time()

    def on_batch() -> None:
        nonlocal left
        left -= 1
        if not left or trainer.progress.batch == trainer.batches_per_epoch:
            raise _Enough

    try:
        trainer.run_epoch(on_batch)
    except _Enough:
        taken = time.process_time() - before
    if trainer.progress.batch == trainer.batches_per_epoch:  # the next epoch, without validation
        trainer.optimizer.flush()
        trainer.progress.batch, trainer.progress.epoch = 0, trainer.progress.epoch + 1
    return taken / (batches - left) * trainer.batches_per_epoch


def main() -> None:
    """Answer the numbers on standard input."""
    recipe, csv, backend, seed = sys.argv[1:]
    trainer = trainer_of(recipe, csv, backend, int(seed))
    epoch_seconds(trainer, 3)  # compiles, and warms up
    print(json.dumps({"rows": len(trainer.train), "batches": trainer.batches_per_epoch,
                      "parameters": trainer.model.flat.values.size}), flush=True)  # fmt: skip
    for line in sys.stdin:
        print(epoch_seconds(trainer, int(line)), flush=True)


if __name__ == "__main__":
    main()
