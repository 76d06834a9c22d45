"""Models of Keras and Flax as files: read as a classifier, and written from one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

from npnlp.classifier.classifier import Classifier
from npnlp.classifier.weights import checked_weights, require_room
from npnlp.errors import InputError, short
from npnlp.exchange.choices import CELL_OF, Choices, bare_config, require_agreement
from npnlp.exchange.frameworks.flax_msgpack import Tree, msgpack_of, read_msgpack
from npnlp.exchange.frameworks.flax_names import flax_found, flax_paths
from npnlp.exchange.frameworks.flax_write import flax_tree
from npnlp.exchange.frameworks.keras_archive import read_file
from npnlp.exchange.frameworks.parts import SAYS, TRAINS, Found
from npnlp.exchange.state_dict import classifier_of, tensors_of
from npnlp.files import write_atomic
from npnlp.files.tensors import require_kind, save_tensors
from npnlp.models import SurnameClassifier
from npnlp.optional import needs
from npnlp.text import SurnameDataset, SurnameVectorizer

T = TypeVar("T")
KIND = "npnlp flax parameters"
KERAS_SUFFIXES, HDF5_SUFFIXES, FLAX_SUFFIXES = (".keras",), (".h5", ".hdf5"), (".msgpack",)
#: The suffixes that a model of each framework is written with, the first by default.
SUFFIXES = {"keras": (".keras", ".h5"), "flax": (".msgpack", ".safetensors")}


def read_model(
    path: str | Path, vectorizer_file: str | Path | None = None, choices: Choices | None = None,
    said: list[str] | None = None,
) -> Classifier:  # fmt: skip
    """The classifier in a file of this project, of PyTorch, of Keras 3 or of Flax.

    Keras's files are known by their suffix, ``.keras`` or ``.h5``; Flax's by ``.msgpack``, or in a
    safetensors file by the names of the parameters. For all others see
    :func:`npnlp.exchange.read_state_dict`, whose arguments these are. Raises :class:`InputError`,
    naming the file, for what cannot be converted, with the reason.
    """
    path, choices = Path(path), choices or Choices()
    said = said if said is not None else []
    suffix = path.suffix.lower()
    if suffix in (*KERAS_SUFFIXES, *HDF5_SUFFIXES):
        found = _named(path, lambda: _keras(path, choices))
    elif suffix in FLAX_SUFFIXES:
        tree = read_msgpack(path)
        found = _named(path, lambda: flax_found(tree, _poolings(choices.pooling)))
    else:
        tensors, values = tensors_of(path)
        paths = flax_paths(tensors)
        if paths is None:
            return classifier_of(path, tensors, values, vectorizer_file, choices, said)
        tree = {paths[name]: tensor for name, tensor in tensors.items()}
        own = None if values is None else require_kind(path, values, KIND)
        found = _named(path, lambda: _flax(tree, own, choices))
    said += found.notes
    return _named(path, lambda: _classifier(found, vectorizer_file, choices))


def _named(path: Path, read: Callable[[], T]) -> T:
    """The result of ``read``; an error of it names the file."""
    try:
        return read()
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _keras(path: Path, choices: Choices) -> Found:
    content = read_file(path)
    with needs("reading a Keras model", "h5py"):
        from npnlp.exchange.frameworks.keras_read import keras_found, weights_found
    if path.suffix.lower() in KERAS_SUFFIXES:
        return keras_found(content)
    return weights_found(content, choices.reset)


def _flax(tree: Tree, own: Mapping[str, Any] | None, choices: Choices) -> Found:
    if own is None:
        return flax_found(tree, _poolings(choices.pooling))
    says, trains = own.get("says"), own.get("trains")
    if not isinstance(says, dict) or not isinstance(trains, dict) or says.keys() - set(SAYS):
        raise InputError("damaged metadata: not what an export writes")
    found = flax_found(tree, _poolings(says.get("pooling")))
    return replace(found, says={**says, **found.says}, trains=trains,
                   vectorizer=own.get("vectorizer"))  # fmt: skip


def _poolings(pooling: Any) -> int:
    return pooling.count("+") + 1 if isinstance(pooling, str) else 1


def _classifier(found: Found, vectorizer_file: str | Path | None, choices: Choices) -> Classifier:
    require_agreement(choices, found.says)
    if unknown := found.trains.keys() - set(TRAINS):
        raise InputError(f"field {short(min(unknown))} is none of {', '.join(TRAINS)}")
    state = checked_weights(found.state)
    if vectorizer_file is not None:
        vectorizer = SurnameDataset.load_vectorizer_only(vectorizer_file)
    elif found.vectorizer is not None:
        vectorizer = SurnameVectorizer.from_serializable(found.vectorizer)
    else:
        raise InputError("it has no vocabularies; give them with --vectorizer-file vectorizer.json")
    source = str(vectorizer_file or "the vectorizer in it")
    chosen = Choices(**{**asdict(choices), **found.says})
    config = bare_config(state, "pytorch", chosen, vectorizer, source)
    config = replace(config, **found.trains)
    require_room(config, state)
    model = SurnameClassifier(config)
    model.load_state_dict(state)
    return Classifier(model, vectorizer)


def write_model(classifier: Classifier, path: str | Path, framework: str, form: str = "") -> None:
    """Write the model for ``framework``, keras or flax, atomically; its suffix says in which way.

    ``form`` is that of Flax's parameters, linen or nnx. Raises :class:`InputError` for a model that
    the framework has no place for.
    """
    path, model = Path(path), classifier.model
    state, config = model.state_dict(), model.config
    vectorizer = classifier.vectorizer.to_serializable()
    if framework == "keras":
        with needs("an export to Keras", "h5py"):
            from npnlp.exchange.frameworks.keras_write import keras_file, keras_weights
        whole = path.suffix in KERAS_SUFFIXES
        write_atomic(path, keras_file(state, config, vectorizer) if whole
                     else keras_weights(state, config))  # fmt: skip
        return
    tree = flax_tree(state, config, form or "linen")
    if path.suffix in FLAX_SUFFIXES:
        write_atomic(path, msgpack_of(tree))
        return
    says = (name for name in SAYS if CELL_OF.get(name, config.cell) == config.cell)
    own = {"says": {name: getattr(config, name) for name in says},
           "trains": {name: getattr(config, name) for name in TRAINS},
           "vectorizer": vectorizer}  # fmt: skip
    save_tensors(path, KIND, {".".join(name): array for name, array in tree.items()}, own)
