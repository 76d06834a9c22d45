"""``last.safetensors``: what resuming needs.

docs/determinism.md says which settings may change at a resume, and what comes of it.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from npnlp.errors import InputError, short
from npnlp.files.tensors import load_tensors, save_tensors
from npnlp.models import ClassifierConfig
from npnlp.runs.checkpoint_state import plain_state, require_state, with_history
from npnlp.text import SurnameDataset
from npnlp.text.provenance import TableNote
from npnlp.training.config import TrainingConfig
from npnlp.training.trainer import Trainer
from npnlp.version import __version__

KIND = "npnlp checkpoint"
#: Settings that may differ at a resume: they say when to stop, not which way to go. With a schedule
#: that ends with the run, none may.
FREE = ("num_epochs", "warm_up", "early_stopping_criteria")
#: Beside the schedule "onecycle": without it, that was the one which is called "cosine" now.
ONE_CYCLE = {"one_cycle": "OneCycleLR"}
#: What decides the data, by a hash or as it is; the other settings are fields of the two configs.
DATA = ("data", "vectorizer")
#: What a checkpoint tells beside them, which nothing is compared with: the table, and a tensor of
#: codes of the names in train. The model file, which is passed on, has no trace of names.
TABLE, NAMES = "table", "train_names"
#: A checkpoint from before a setting was there went on as its default does.
DEFAULTS = {
    field.name: field.default
    for kind in (ClassifierConfig, TrainingConfig)
    for field in fields(kind)
    if field.default is not MISSING
}


def settings_of(trainer: Trainer, dataset: SurnameDataset) -> dict[str, Any]:
    """The settings that a resumed run has to have in common with the one it resumes.

    ``data`` is the SHA-256 of the rows in their order, whatever file they are in.
    """
    config = trainer.config
    table = dataset.table
    return {
        "data": dataset.sha256,
        "vectorizer": dataset.get_vectorizer().vocabularies(),
        **trainer.model.config.to_dict(),
        **asdict(config),
        "warm_up": config.rise,
        **(ONE_CYCLE if config.schedule == "onecycle" else {}),
        TABLE: None if table is None else asdict(table),
        NAMES: dataset.train_codes,
    }


def save_checkpoint(path: str | Path, trainer: Trainer, settings: dict[str, Any]) -> None:
    """Write the state of ``trainer``."""
    if not trainer.progress.computed_on:
        note_machine(trainer, epoch=0, batch=0)
    tensors, state = plain_state(trainer)
    plain = {name: value for name, value in settings.items() if name != NAMES}
    tensors = {**tensors, NAMES: settings[NAMES]}
    save_tensors(path, KIND, tensors, {"state": state, "settings": plain})


def trained_names(path: str | Path, table: TableNote) -> NDArray[np.uint64] | None:
    """The codes of the names in train (:func:`npnlp.text.provenance.name_codes`).

    None where there is no checkpoint of a run on ``table``.
    """
    try:
        tensors, values = load_tensors(path, KIND)
    except (InputError, OSError):
        return None
    codes = tensors.get(NAMES)
    of_run = values["settings"].get(TABLE) if isinstance(values.get("settings"), dict) else None
    if codes is None or codes.dtype != np.uint64 or codes.ndim != 1 or of_run != asdict(table):
        return None
    return codes


def load_checkpoint(path: str | Path, trainer: Trainer, settings: dict[str, Any]) -> None:
    """Put ``trainer`` where the checkpoint was taken.

    Another backend, or another version or number of threads of what computes, is no obstacle: it
    is noted in ``progress.computed_on``. Raises :class:`InputError` where the run that wrote the
    checkpoint had other settings, naming the first.
    """
    tensors, values = load_tensors(path, KIND)
    tensors.pop(NAMES, None)
    free = () if trainer.config.by_step else FREE
    other = _first_other(path, values, settings, (TABLE, NAMES, *free), len(trainer.train))
    if other is not None:
        hint = "--surname-csv" if other.name in DATA else "settings"
        raise InputError(
            f"{path}: that run had {other}; resume with the same {hint}, or choose another "
            "--save-dir"
        )
    try:
        tensors, state = with_history(tensors, values.get("state"))
        require_state(trainer, tensors, state)
        trainer.load_state(tensors, state)
    except InputError as error:
        raise InputError(f"{path}: damaged checkpoint: {error}") from error
    note_machine(trainer, trainer.progress.epoch, trainer.progress.batch)


def align(trainer: Trainer) -> None:
    """Give the trainer of every rank the state of rank 0's."""
    if trainer.ranks.size == 1:
        return
    tensors, state = plain_state(trainer)
    contiguous = {name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}
    send = trainer.ranks.from_first
    tensors = safetensors.numpy.load(send(safetensors.numpy.save(contiguous)))
    trainer.load_state(*with_history(tensors, json.loads(send(json.dumps(state).encode()))))


def note_machine(trainer: Trainer, epoch: int, batch: int) -> None:
    """Add this machine to ``progress.computed_on``, where it is not the one before."""
    noted = trainer.progress.computed_on
    now = {"npnlp": __version__, **trainer.model.backend.describe()}
    place = {"from_epoch": epoch, "from_batch": batch}
    if not noted or noted[-1] != now | {name: noted[-1].get(name) for name in place}:
        noted.append(place | now)


class Other(NamedTuple):
    """A setting that another run had, and this one has."""

    name: str
    before: Any
    now: Any

    def __str__(self) -> str:
        """As what a message says that run had."""
        if self.name in DATA:
            return f"other data ({self.name} differs)"
        return f"{self.name} {short(self.before)}, this one {short(self.now)}"


def other_setting(path: str | Path, settings: dict[str, Any], rows: int) -> Other | None:
    """The first setting, of those that ``path`` tells of, that its run had another of.

    ``rows`` is how many are trained on.

    Raises :class:`InputError` where it cannot be read, as :func:`load_checkpoint` does.
    """
    _, values = load_tensors(path, KIND)
    untold = [n for n in (*FREE, TABLE, NAMES) if n not in values.get("settings", ())]
    return _first_other(path, values, settings, (TABLE, NAMES, *untold), rows)


def _first_other(
    path: str | Path, values: dict[str, Any], settings: dict[str, Any], but: Collection[str],
    rows: int,
) -> Other | None:  # fmt: skip
    saved = values.get("settings")
    if not isinstance(saved, dict):
        raise InputError(f"{path}: damaged checkpoint: settings are {short(saved)}")
    if saved.get("schedule") == "onecycle" and not ONE_CYCLE.keys() <= saved.keys():
        saved = saved | {"schedule": "cosine"}
    size, now = saved.get("batch_size"), settings["batch_size"]
    if type(size) is int and size > now >= rows:
        saved = saved | {"batch_size": now}  # from before a batch was no larger than the data
    for name, now in settings.items():
        before = saved.get(name, DEFAULTS.get(name))
        if name not in but and (list(before) if isinstance(before, tuple) else before) != now:
            return Other(name, before, now)
    return None
