"""Runs that differ in their seeds alone, trained in the same launches of a device.

Each has its folder, as if it were alone. Checkpoints are written every few seconds and not after
every epoch: the epochs of all runs together may take less time than their files. What a run that is
killed loses are those seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from npnlp.backend import Backend
from npnlp.backend.numpy_backend import NumpyBackend
from npnlp.errors import DivergenceError
from npnlp.runs.flow_pool import flow_pool
from npnlp.runs.run import Run
from npnlp.training.interrupt import Interrupted, interruptible
from npnlp.training.many import ManyTrainers

#: Seconds between two checkpoints.
SAVED_EVERY = 10.0


class BesideDevice(NumpyBackend):
    """NumPy, for trainers whose epochs ``device`` takes; files name that as what computes."""

    def __init__(self, device: Backend) -> None:
        super().__init__()
        self.device: Backend | None = device

    def __getstate__(self) -> dict[str, Any]:
        """Another process has no device: there it is NumPy alone."""
        return vars(self) | {"device": None}

    def describe(self) -> dict[str, str]:
        """That of the device, where it is."""
        return super().describe() if self.device is None else self.device.describe()


def train_together(
    runs: Mapping[int, Run], device: Backend,
    heard: Callable[[int, str, Any], None] = lambda seed, kind, value: None,
) -> dict[int, BaseException]:  # fmt: skip
    """Train all ``runs``, by seed, until each is finished, and leave their checkpoints.

    They are locked already, and their backend is :class:`BesideDevice`. ``heard`` is called with a
    seed, ``"note"`` and a row of its history. The result says why the others have no end: a
    :class:`DivergenceError`, or :class:`Interrupted` after a Ctrl-C.
    """
    failed: dict[int, BaseException] = {}
    files = {seed: Files(run) for seed, run in runs.items()}

    def write(seed: int, call: Callable[[], None]) -> None:
        """What cannot be written ends this run, and no other."""
        try:
            call()
        except OSError as error:
            failed[seed] = error

    def active() -> list[int]:
        left = (seed for seed in runs if seed not in failed)
        return [seed for seed in left if not runs[seed].trainer.finished]

    for seed, run in runs.items():
        write(seed, run.begin)
    if not active():
        return failed
    slots = {seed: slot for slot, seed in enumerate(runs)}
    trainers, saved = [run.trainer for run in runs.values()], time.monotonic()
    with interruptible() as check, flow_pool(trainers) as flows:
        many = ManyTrainers(device, trainers, flows)
        try:
            while going := active():
                rows = many.run_epoch([slots[seed] for seed in going], check)
                late = time.monotonic() - saved > SAVED_EVERY
                saved = time.monotonic() if late else saved
                for seed, row in zip(going, rows.values(), strict=True):
                    if isinstance(row, DivergenceError):
                        write(seed, files[seed].save)
                        failed[seed] = runs[seed].keep_step(row)
                        continue
                    if late or runs[seed].trainer.finished:
                        write(seed, files[seed].save)
                    heard(seed, "note", row)
                check()
        except Interrupted:
            for seed in active():
                failed[seed] = Interrupted()
                write(seed, files[seed].save)
    return failed


class Files:
    """The checkpoint and the model of a run, written now and then."""

    def __init__(self, run: Run) -> None:
        self.run, self.best_epoch = run, run.trainer.progress.best_epoch

    def save(self) -> None:
        """Write the best weights, where they are others than before, and then the checkpoint."""
        run, trainer = self.run, self.run.trainer
        if trainer.progress.best_epoch != self.best_epoch:
            self.best_epoch = trainer.progress.best_epoch
            now = trainer.model.state_dict()
            trainer.model.load_state_dict(trainer.best)
            run.lock.require()
            run.classifier.save(run.model_file)
            trainer.model.load_state_dict(now)
        run.save()
