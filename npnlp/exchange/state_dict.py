"""Reading and writing PyTorch's state dicts as safetensors files, which cannot hold code.

This needs NumPy only. A pickle (``.pt``, ``.pth``) is read by PyTorch with ``weights_only=True``,
where that is installed, and never by this program. In PyTorch:

    model.load_state_dict(safetensors.torch.load_file("state_dict.safetensors"))
    safetensors.torch.save_file(model.state_dict(), "mine.safetensors")
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from npnlp.classifier.classifier import Classifier
from npnlp.classifier.model_file import KIND as CLASSIFIER
from npnlp.classifier.weights import checked_weights, require_room
from npnlp.errors import InputError
from npnlp.exchange.choices import Choices, bare_config, require_agreement, require_sizes
from npnlp.exchange.layouts import State, from_layout, to_layout
from npnlp.exchange.prefixes import listed, plain_names
from npnlp.files.tensors import read_tensors, require_kind, save_tensors
from npnlp.models import ClassifierConfig, SurnameClassifier
from npnlp.text import SurnameDataset, SurnameVectorizer

KIND = "npnlp state dict"
#: The first bytes of a file by ``torch.save``: an archive, or a pickle.
PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
TORCH_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")
SUFFIXES = (*TORCH_SUFFIXES, ".pkl", ".pickle")


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
    there, values = tensors_of(path)
    return classifier_of(path, there, values, vectorizer_file, choices, said)


def tensors_of(path: Path) -> tuple[State, dict[str, Any] | None]:
    """The tensors of a pickle or a safetensors file, and what this project wrote beside them."""
    return (_of_pickle(path), None) if _is_pickle(path) else read_tensors(path)


def classifier_of(
    path: Path, there: State, values: dict[str, Any] | None,
    vectorizer_file: str | Path | None, choices: Choices, said: list[str] | None = None,
) -> Classifier:  # fmt: skip
    """The second half of :func:`read_state_dict`, of what :func:`tensors_of` found in ``path``."""
    state = there
    if values is not None:
        values = require_kind(path, values, KIND, CLASSIFIER)
    try:
        if values is None:
            state, changes = plain_names(state)
            (said if said is not None else []).extend(changes)
        state, layout = from_layout(checked_weights(state))
        if values is not None:
            require_agreement(choices, values["config"])
            config = ClassifierConfig.from_dict(values["config"])
            vectorizer = SurnameVectorizer.from_serializable(values["vectorizer"])
            require_sizes(values["config"], vectorizer, "the vectorizer in its metadata")
        elif vectorizer_file is None:
            raise InputError(
                "a bare state dict, which has no vocabularies; give them with --vectorizer-file "
                "vectorizer.json"
            )
        else:
            vectorizer = SurnameDataset.load_vectorizer_only(vectorizer_file)
            config = bare_config(state, layout, choices, vectorizer, str(vectorizer_file))
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
