"""A training run in its folder: train, save, resume, keep the best weights, evaluate."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from npnlp.backend import Backend
from npnlp.classifier.building import make_classifier
from npnlp.classifier.calibration import Calibration
from npnlp.classifier.classifier import Classifier
from npnlp.classifier.evaluation import Evaluation, evaluate
from npnlp.classifier.finishing import finish
from npnlp.diagnosis.finding import examine, named
from npnlp.diagnosis.replay import write_replay
from npnlp.errors import DivergenceError, InputError
from npnlp.files.folder_lock import NAME as LOCK_FILE
from npnlp.files.folder_lock import FolderLock
from npnlp.files.pictures import files_of
from npnlp.page.html import PAGE
from npnlp.runs.bars import Watcher, progress_bars
from npnlp.runs.checkpoint import load_checkpoint, other_setting, save_checkpoint, settings_of
from npnlp.text import SPLITS, SurnameDataset
from npnlp.text.audit import audit
from npnlp.text.letter_case import AS_WRITTEN
from npnlp.training.config import TrainingConfig
from npnlp.training.interrupt import Interrupted, interruptible
from npnlp.training.ranks import ALONE, Alone
from npnlp.training.trainer import Trainer

FILES = (
    "last.safetensors",
    "replay.safetensors",
    "metrics.json",
    "history.csv",
    "gradient_flow.csv",
    "confusion_matrix.csv",
    "reliability.csv",
    "MODEL_CARD.md",
    LOCK_FILE,
)
#: What other commands make of a model, in its folder.
DERIVED = (
    "state_dict.safetensors", "model.onnx", "gradient_flow_model.csv", "flow_by_part_model.csv",
)  # fmt: skip
PICTURES = ("learning_curves", "gradient_norms", "gradient_flow", "confusion_matrix", "reliability")
#: The page of the model is written with them.
DRAWN = (
    *(
        file
        for name in (*PICTURES, "gradient_flow_model", "flow_by_part_model")
        for file in files_of(name)
    ),
    PAGE,
)


@dataclass
class Run:
    """A dataset, a trainer for it, and the folder where its files go."""

    dataset: SurnameDataset
    trainer: Trainer
    save_dir: Path
    model_file: Path
    vectorizer_file: Path
    audit: dict[str, Any]
    lock: FolderLock
    finished: Classifier | None = None

    @classmethod
    def make(
        cls,
        dataset: SurnameDataset,
        config: TrainingConfig,
        shape: dict[str, Any],
        backend: Backend,
        save_dir: Path,
        model_file: str = "model.safetensors",
        vectorizer_file: str = "vectorizer.json",
        ranks: Alone = ALONE,
    ) -> Run:
        """A run that has not begun; ``shape`` are fields of :class:`ClassifierConfig`.

        A batch is no larger than the data.
        """
        _check_names(model_file, vectorizer_file)
        dataset.set_letter_case(AS_WRITTEN)  # names are read so in training, and whole
        dataset.get_vectorizer().split_at = {}
        model = make_classifier(dataset, shape, backend, config.seed)
        weights = dataset.class_weights(config.class_weights)
        splits = dataset.arrays("train"), dataset.arrays("val")
        config = replace(config, batch_size=min(config.batch_size, len(splits[0])))
        trainer = Trainer(model, *splits, config, weights, ranks, examine)
        return cls(
            dataset,
            trainer,
            save_dir,
            save_dir / model_file,
            save_dir / vectorizer_file,
            audit(dataset.rows) if ranks.first else {},
            FolderLock(save_dir),
        )

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What a run that resumes this one has to have in common with it."""
        return settings_of(self.trainer, self.dataset)

    @property
    def checkpoint_file(self) -> Path:
        """Where resuming finds its state."""
        return self.save_dir / "last.safetensors"

    @property
    def replay_file(self) -> Path:
        """Where the step goes in which a number was not finite."""
        return self.save_dir / "replay.safetensors"

    @property
    def classifier(self) -> Classifier:
        """The model with the vectorizer it belongs to; with all that it has once it is trained."""
        if self.finished is not None:
            return self.finished
        return Classifier(self.trainer.model, self.dataset.get_vectorizer(), self.dataset.table)

    @property
    def calibration(self) -> Calibration | None:
        """That of the finished model."""
        return self.classifier.calibration

    @property
    def temperature(self) -> float:
        """That of the finished model; 1 without calibration."""
        return self.classifier.temperature

    def resume(self) -> bool:
        """Continue from the last checkpoint; False where there is none."""
        if not self.checkpoint_file.exists():
            return False
        load_checkpoint(self.checkpoint_file, self.trainer, self.settings)
        return True

    def require_room(self) -> None:
        """Raise :class:`InputError` where the folder holds a model of another run.

        The same run, which would come to the same model, may be trained again.
        """
        if not self.model_file.exists():
            return
        try:
            other = other_setting(self.checkpoint_file, self.settings, len(self.trainer.train))
            if other is None:
                return
            what = f"of a run that had {other}"
        except (InputError, OSError):
            what = f"whose settings are not known, without its {self.checkpoint_file.name}"
        raise InputError(
            f"{self.model_file}: a model is there, {what}; choose another --save-dir, or replace "
            "it with --overwrite"
        )

    def remove_derived(self) -> list[Path]:
        """Remove what was drawn, measured or exported from the model there; the paths."""
        found = [path for name in (*DERIVED, *DRAWN) if (path := self.save_dir / name).is_file()]
        for path in found:
            path.unlink()
        return found

    def train(self, bars: bool = False, shown: Watcher | None = None) -> None:
        """Train to the end, saving after every epoch and wherever it is interrupted.

        ``shown`` is told of every batch and epoch, in the place of ``bars``.
        Raises :class:`Interrupted` after a Ctrl-C, with all saved, :class:`DivergenceError` where a
        number is not finite, with the step in ``replay_file``, and :class:`InputError` where
        another process trains in ``save_dir``.
        """
        trainer = self.trainer
        with self.lock:
            self.begin()
            try:
                self._train(bars, self.save, shown)
            except Interrupted:
                self.save()
                raise
            except DivergenceError as error:
                raise self.keep_step(error) from error
            trainer.finish()
            self.finished = finish(
                self.dataset, trainer.model, "val",
                temperature=trainer.config.calibrate, half=trainer.config.store == "float16",
            )  # fmt: skip
            self.lock.require()
            self.classifier.save(self.model_file)
            self.dataset.save_vectorizer(self.vectorizer_file)

    def begin(self) -> None:
        """Write what a run begins with, or goes on from."""
        self.save()
        self.dataset.save_vectorizer(self.vectorizer_file)
        self.replay_file.unlink(missing_ok=True)

    def save(self, better: bool = False) -> None:
        """Write the checkpoint, the history, and the model where it is ``better``.

        A resumed run writes again what follows from its checkpoint.
        """
        self.lock.require()
        if better:
            self.classifier.save(self.model_file)
        save_checkpoint(self.checkpoint_file, self.trainer, self.settings)
        if self.trainer.progress.history:
            self.trainer.progress.history.write_csv(self.save_dir / "history.csv")

    def _train(
        self, bars: bool, save: Callable[[bool], None], watcher: Watcher | None = None
    ) -> None:
        trainer = self.trainer
        watched = nullcontext(watcher) if watcher else progress_bars(trainer, bars)
        with interruptible() as check, watched as shown:
            check = trainer.ranks.agreed(check)

            def on_batch() -> None:
                shown.batch()
                check()

            while not trainer.finished:
                row = trainer.run_epoch(on_batch)
                save(trainer.progress.best_epoch == row["epoch"])
                shown.epoch(row)
                check()

    def follow(self) -> None:
        """Train to the end beside rank 0, which saves."""
        self._train(bars=False, save=lambda better: None)

    def keep_step(self, error: DivergenceError) -> DivergenceError:
        """Write ``replay_file``; the error, naming the row's name and the file."""
        if error.replay is None:
            return error
        rows = self.dataset.rows
        names = rows.names.take(rows.places(error.replay.split)[error.replay.rows])
        step = replace(error.replay, names=tuple(names))
        finding = named(error.finding, step)
        mend = "lower --learning-rate or set --clip-norm"
        if finding.where == "weight":
            mend = "train again, or resume from a checkpoint with finite weights"
        try:
            write_replay(self.replay_file, step)
            hint = f"npnlp replay {self.replay_file} repeats the step"
        except OSError as failure:
            hint = f"{self.replay_file} was not written: {failure.strerror}"
        return DivergenceError(f"{finding}; {mend}; {hint}", finding, step)

    def evaluate(self) -> dict[str, Evaluation]:
        """The best weights on every split, all rows, dropout off.

        The outcomes are those as saved; of test, before them, those without the temperature.
        """
        model, criterion = self.trainer.model, self.trainer.criterion
        factors = {"test": (self.temperature, 1.0)}
        return {
            split: evaluate(
                model, self.dataset.arrays(split), criterion, factors.get(split, (1.0,))
            )
            for split in SPLITS
        }


def require_elsewhere(table: Path, save_dir: Path, model_file: str, vectorizer_file: str) -> None:
    """Raise :class:`InputError` where a run in ``save_dir`` would replace its own table."""
    written = table.name in (model_file, vectorizer_file, *FILES, *DRAWN)
    if written and table.resolve().parent == save_dir.resolve():
        raise InputError(f"{table}: the run would replace this table; choose another --save-dir")


def _check_names(model_file: str, vectorizer_file: str) -> None:
    """Raise :class:`InputError` for names that are no plain file names, or taken."""
    taken = {*FILES, *DRAWN}
    for option, name in (("model", model_file), ("vectorizer", vectorizer_file)):
        if not name or Path(name).name != name:
            raise InputError(f"{option} file {name!r}: has to be a plain file name, no path")
        if name in taken:
            raise InputError(f"{option} file {name!r}: another file of the run has that name")
        taken.add(name)
