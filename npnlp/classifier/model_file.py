"""The file of a classifier: tensors, and configuration and vocabularies as JSON beside them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from npnlp.backend import Backend, get_backend
from npnlp.backend.random import UNDRAWN
from npnlp.classifier.calibration import Calibration
from npnlp.classifier.weights import checked_weights, narrowed, require_room
from npnlp.errors import InputError
from npnlp.files.own import own_path
from npnlp.files.rows import rows_of_text, rows_to_text
from npnlp.files.tensors import load_tensors, save_tensors
from npnlp.models import ClassifierConfig, SurnameClassifier
from npnlp.summary import summarized
from npnlp.text import SurnameVectorizer
from npnlp.text.familiarity import Familiarity
from npnlp.text.provenance import TableNote

KIND = "npnlp classifier"


def own_model_path() -> Path:
    """The path of the model that comes with npnlp: ``npnlp train`` on the project's own table."""
    return own_path("model.safetensors")


@summarized
class ModelParts(NamedTuple):
    """What a file holds; the last three where they are known."""

    model: SurnameClassifier
    vectorizer: SurnameVectorizer
    table: TableNote | None = None
    calibration: Calibration | None = None
    familiarity: Familiarity | None = None


def save_parts(path: str | Path, parts: ModelParts) -> None:
    """Write the file, atomically.

    Weights that all are numbers of float16 are written as such: half the file, the same bits.
    """
    values: dict[str, Any] = {
        "config": parts.model.config.to_dict(),
        "vectorizer": parts.vectorizer.to_serializable(),
    }
    if parts.table is not None:
        values["table"] = asdict(parts.table)
    if parts.calibration is not None:
        values["calibration"] = parts.calibration.to_serializable()
    if parts.familiarity is not None:
        values["familiarity"] = rows_to_text(parts.familiarity.to_tensors())
    save_tensors(path, KIND, narrowed(parts.model.state_dict()), values)


def load_parts(path: str | Path, backend: Backend | None = None) -> ModelParts:
    """Undo :func:`save_parts`; raises :class:`InputError` naming file and field where it cannot."""
    state, values = load_tensors(path, KIND)
    try:
        config = ClassifierConfig.from_dict(values["config"])
        vectorizer = SurnameVectorizer.from_serializable(values["vectorizer"])
        table = TableNote.from_dict(values.get("table"))
        sizes = len(vectorizer.char_vocab), len(vectorizer.nationality_vocab)
        if sizes != (config.num_embeddings, config.num_classes):
            raise InputError(f"vocabularies of {sizes} for a configuration of {config}")
        calibration = familiarity = None
        if "calibration" in values:
            calibration = Calibration.from_serializable(values["calibration"], sizes[1])
        if "familiarity" in values:
            rows = rows_of_text("familiarity", values["familiarity"])
            familiarity = Familiarity.from_tensors(rows)
            if familiarity.num_tokens != sizes[0]:
                raise InputError(f"familiarity.num_tokens is not {sizes[0]}, the vocabulary's")
        state = checked_weights(state)
        require_room(config, state)
        backend = backend or get_backend("numpy")
        model = SurnameClassifier(config, backend=backend, random=UNDRAWN)
        model.load_state_dict(state)
    except KeyError as error:
        raise InputError(f"{path}: metadata lacks {error}") from error
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return ModelParts(model, vectorizer, table, calibration, familiarity)
