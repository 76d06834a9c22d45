"""Reading and writing PyTorch's state dicts as safetensors files, which cannot hold code.

This needs NumPy only. A pickle (``.pt``, ``.pth``) is read by PyTorch with ``weights_only=True``,
where that is installed, and never by this program. In PyTorch:

    model.load_state_dict(safetensors.torch.load_file("state_dict.safetensors"))
    safetensors.torch.save_file(model.state_dict(), "mine.safetensors")
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from npnlp.classifier.classifier import Classifier
from npnlp.classifier.model_file import KIND as CLASSIFIER
from npnlp.classifier.weights import checked_weights, require_room
from npnlp.errors import InputError, short
from npnlp.exchange.layouts import State, from_layout, require_notebook, to_layout
from npnlp.exchange.prefixes import listed, plain_names
from npnlp.exchange.shapes import config_from_shapes
from npnlp.files.tensors import read_tensors, require_kind, save_tensors
from npnlp.models import ClassifierConfig, SurnameClassifier
from npnlp.text import SurnameDataset, SurnameVectorizer

KIND = "npnlp state dict"
#: The first bytes of a file by ``torch.save``: an archive, or a pickle.
PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
TORCH_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")
SUFFIXES = (*TORCH_SUFFIXES, ".pkl", ".pickle")
#: The cell that a choice is for.
CELL_OF = {"nonlinearity": "elman", "reset": "gru", "num_heads": "transformer"}


@dataclass(frozen=True)
class Choices:
    """Fields that do not follow from shapes of tensors; None is the configuration's default."""

    nonlinearity: str | None = None
    reset: str | None = None
    pooling: str | None = None
    num_heads: int | None = None

    def given(self) -> dict[str, Any]:
        """The choices that are not None."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def write_state_dict(classifier: Classifier, path: str | Path, layout: str = "pytorch") -> None:
    """Write the tensors with the names of ``layout``, and the rest as metadata, atomically.

    Raises :class:`InputError` for a model that the layout has no names for.
    """
    config = classifier.model.config
    state = to_layout(classifier.model.state_dict(), config, layout)
    values = {"config": config.to_dict(), "vectorizer": classifier.vectorizer.to_serializable()}
    save_tensors(path, KIND, state, {"layout": layout, **values})


def read_state_dict(
    path: str | Path, vectorizer_file: str | Path | None = None, choices: Choices | None = None,
    said: list[str] | None = None,
) -> Classifier:  # fmt: skip
    """The classifier in a file, of this project or with a state dict only.

    A file of this project is complete. For a state dict the vocabularies are those of
    ``vectorizer_file``, and the configuration follows from names, shapes and ``choices``. Weights
    become float32. What wrappers put into names (:mod:`npnlp.exchange.prefixes`) is left out, which
    ``said`` then says. Raises :class:`InputError`, naming the file, for a pickle that PyTorch does
    not read as weights only or where it is missing, for tensors that are missing, unknown,
    misshapen, not floating or not finite, for vocabularies of another size, and for choices that
    contradict the file.
    """
    path, choices = Path(path), choices or Choices()
    there, values = (_of_pickle(path), None) if _is_pickle(path) else read_tensors(path)
    state = there
    if values is not None:
        values = require_kind(path, values, KIND, CLASSIFIER)
    try:
        if values is None:
            state, changes = plain_names(state)
            (said if said is not None else []).extend(changes)
        state, layout = from_layout(checked_weights(state))
        if values is not None:
            _require_agreement(choices, values["config"])
            config = ClassifierConfig.from_dict(values["config"])
            vectorizer = SurnameVectorizer.from_serializable(values["vectorizer"])
            _require_sizes(values["config"], vectorizer, "the vectorizer in its metadata")
        elif vectorizer_file is None:
            raise InputError(
                "a bare state dict, which has no vocabularies; give them with --vectorizer-file "
                "vectorizer.json"
            )
        else:
            vectorizer = SurnameDataset.load_vectorizer_only(vectorizer_file)
            config = _config(state, layout, choices, vectorizer, str(vectorizer_file))
        require_room(config, state)
        model = SurnameClassifier(config)
        model.load_state_dict(state)
    except KeyError as error:
        raise InputError(f"{path}: metadata lacks {error}") from error
    except InputError as error:
        about_names = values is None and re.search("tensor .* (is missing|not belong)", str(error))
        names = f"; the tensors there are {listed(there)}" if about_names else ""
        raise InputError(f"{path}: {error}{names}") from error
    return Classifier(model, vectorizer)


def _is_pickle(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(9)
    # A safetensors file begins with a length of 8 bytes, which may look like those of a pickle.
    safe = head[8:] == b"{"
    return not safe and (head.startswith(PICKLES) or path.suffix.lower() in SUFFIXES)


def _of_pickle(path: Path) -> State:
    """The state dict in it, read by PyTorch as weights only; by its name a file asks for that."""
    refusal = (
        f"{path}: a PyTorch pickle, which can run any code when it is read; where you trust it, "
        "convert it: safetensors.torch.save_file(torch.load(FILE, weights_only=True), "
        "'model.safetensors')"
    )
    if path.suffix.lower() not in TORCH_SUFFIXES:
        raise InputError(refusal)
    try:
        from npnlp.exchange.torch_model import weights_of
    except Exception as error:  # PyTorch is missing, or broken
        raise InputError(refusal) from error
    try:
        return weights_of(path)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _config(
    state: State, layout: str, choices: Choices, vectorizer: SurnameVectorizer, source: str
) -> ClassifierConfig:
    fields = config_from_shapes(state)
    pooling = fields.get("pooling", "last")
    has = "" if pooling == "attention" else "no "
    if ("attention" in (choices.pooling or pooling).split("+")) == bool(has):
        raise InputError(
            f"pooling is {choices.pooling!r}, but there are {has}tensors of pooling attention "
            "(pool.weight, pool.bias, pool.context)"
        )
    for name in choices.given():
        if CELL_OF.get(name, fields["cell"]) != fields["cell"]:
            raise InputError(f"{name} is for {CELL_OF[name]}, and this is {fields['cell']}")
    fields |= choices.given()
    if layout == "notebook":
        require_notebook(fields)
    vocabulary = vectorizer.char_vocab
    _require_sizes(fields, vectorizer, source)
    fields |= {"padding_idx": vocabulary.mask_index, "unk_idx": vocabulary.unk_index}
    return ClassifierConfig(**fields)


def _require_agreement(choices: Choices, said: Any) -> None:
    for name, value in choices.given().items():
        if isinstance(said, Mapping) and said.get(name, value) != value:
            raise InputError(
                f"{name} is {short(said[name])} in this file, not {value!r}; leave the option out"
            )


def _require_sizes(fields: Mapping[str, Any], vectorizer: SurnameVectorizer, source: str) -> None:
    for field, tensor, vocabulary, of in (
        ("num_embeddings", "emb.weight", vectorizer.char_vocab, "characters"),
        ("num_classes", "fc2.weight", vectorizer.nationality_vocab, "nationalities"),
    ):
        if len(vocabulary) != fields[field]:
            raise InputError(
                f"tensor {tensor!r} has {fields[field]} rows, but {source} has "
                f"{len(vocabulary)} {of}"
            )
