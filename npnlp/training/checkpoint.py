"""``last.safetensors``: what resuming needs."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

from npnlp.errors import InputError
from npnlp.text import SurnameDataset
from npnlp.training.tensors import load_tensors, save_tensors
from npnlp.training.trainer import Trainer

KIND = "npnlp checkpoint"
#: Settings that may differ at a resume: they say when to stop, not which way to go. With a schedule
#: that ends with the run, none may.
FREE = ("num_epochs",)


def settings_of(trainer: Trainer, dataset: SurnameDataset) -> dict[str, Any]:
    """What has to be the same for a resumed run to be the same run."""
    free = () if trainer.config.schedule == "onecycle" else FREE
    frame = dataset.surname_df[["nationality", "surname", "split"]]
    content = "\n".join("\t".join(row) for row in frame.itertuples(index=False))
    return {
        "data": hashlib.sha256(content.encode()).hexdigest(),
        "vectorizer": dataset.get_vectorizer().to_serializable(),
        **trainer.model.config.to_dict(),
        **{k: v for k, v in asdict(trainer.config).items() if k not in free},
    }


def save_checkpoint(path: str | Path, trainer: Trainer, settings: dict[str, Any]) -> None:
    """Write the state of ``trainer``."""
    tensors, values = trainer.state()
    save_tensors(path, KIND, tensors, {"state": values, "settings": settings})


def load_checkpoint(path: str | Path, trainer: Trainer, settings: dict[str, Any]) -> None:
    """Put ``trainer`` where the checkpoint was taken.

    Raises :class:`InputError` where the run that wrote it had other settings, naming the first.
    """
    tensors, values = load_tensors(path, KIND)
    saved = values.get("settings", {})
    for name, value in settings.items():
        if saved.get(name) != value:
            raise InputError(f"{path}: {_difference(name, saved.get(name), value)}")
    try:
        trainer.load_state(tensors, values["state"])
    except (KeyError, TypeError, InputError) as error:
        raise InputError(f"{path}: damaged checkpoint: {error}") from error


def _difference(name: str, before: Any, now: Any) -> str:
    if name in ("data", "vectorizer"):
        return (
            f"that run had other data ({name} differs); resume with the same --surname-csv, or "
            "choose another --save-dir"
        )
    return (
        f"that run had {name} {before!r}, this one {now!r}; resume with the same settings, or "
        "choose another --save-dir"
    )
