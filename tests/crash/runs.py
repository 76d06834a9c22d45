"""Small runs that forked processes begin, go on with and finish, and what they left."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from npnlp.classifier.classifier import Classifier
from npnlp.errors import InputError
from npnlp.files.tensors import load_tensors
from npnlp.runs import card
from npnlp.runs.fingerprint import fingerprint
from npnlp.runs.report import write_report
from npnlp.runs.run import Run
from npnlp.training.interrupt import Interrupted
from tests.support.tables import UNDRAWN_FILES, make_run

KINDS = {"model.safetensors": "npnlp classifier", "last.safetensors": "npnlp checkpoint"}
#: What training, evaluating and reporting leave; pictures are drawn from these.
WRITTEN = UNDRAWN_FILES
BATCHES = 3  # an epoch
FAILED = 70


def forked(action: Callable[[], None]) -> int:
    """The exit status of a process that does ``action``: less than zero by a signal."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if not child:
        status = FAILED
        try:
            action()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def done(action: Callable[[], None]) -> None:
    """Do ``action`` in a process of its own, which has to come to its end."""
    status = forked(action)
    assert status == 0, f"status {status}"


class Case:
    """A run in ``root/run``, made once; a process that is forked begins, or goes on with, it."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True)
        self.folder = root / "run"
        self.others, self.mine = (make_run(self.folder, num_epochs=4, seed=seed) for seed in (6, 5))
        # Whether the rows are those of npnlp's own table takes longer to answer than the training.
        answer = card.is_own_table(self.mine.dataset.rows)
        card.is_own_table = lambda rows: answer
        gc.freeze()

    def finish(self, resume: bool = True, run: Run | None = None) -> None:
        """Train to the end and report."""
        run = run or self.mine
        with run.lock:
            if resume:
                run.resume()
            run.train()
            write_report(run, run.evaluate())

    def until(self, batches: int, resume: bool = True) -> None:
        """Train until a Ctrl-C after so many batches of the run."""
        run = self.mine
        with run.lock:
            if resume:
                run.resume()
            step = run.trainer.step

            def step_and_press(batch: Any) -> None:
                step(batch)
                progress = run.trainer.progress
                if progress.epoch * BATCHES + progress.batch + 1 == batches:
                    signal.raise_signal(signal.SIGINT)

            run.trainer.step = step_and_press  # type: ignore[method-assign]
            with suppress(Interrupted):
                run.train()

    def clear(self, start: Path | None = None) -> None:
        """Empty the folder, or put what is in ``start`` there."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if start is not None:
            shutil.copytree(start, self.folder)

    def keep(self, place: Path) -> Path:
        """Move the folder away."""
        return self.folder.rename(place)


def contents(folder: Path) -> dict[str, str]:
    """A digest of each file, less what a clock fills; the model and the checkpoint have to load."""
    return {path.name: digest(path) for path in folder.iterdir()} if folder.exists() else {}


SEEN: dict[tuple[str, bytes], str] = {}


def digest(path: Path) -> str:
    """The digest of a file, less what a clock fills."""
    data = path.read_bytes()
    key = (path.name, data)
    if key not in SEEN:
        if path.name in KINDS:
            load_tensors(path, KINDS[path.name])
        if path.name == "model.safetensors":
            Classifier.load(path)
        SEEN[key] = fingerprint(path)
    return SEEN[key]


def is_refused(case: Case) -> bool:
    """Whether the checkpoint is another run's, which is said, and nothing is touched."""
    try:
        case.mine.resume()
    except InputError as error:
        return "that run had seed 6" in str(error)
    return False
