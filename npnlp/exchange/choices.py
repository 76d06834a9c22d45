"""What the tensors of a model do not say: options, and the configuration that both make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from npnlp.errors import InputError, short
from npnlp.exchange.layouts import State, require_notebook
from npnlp.exchange.shapes import config_from_shapes
from npnlp.models import ClassifierConfig
from npnlp.text import SurnameVectorizer

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


def bare_config(
    state: State, layout: str, choices: Choices, vectorizer: SurnameVectorizer, source: str
) -> ClassifierConfig:
    """The configuration of tensors with this project's names, which came in ``layout``.

    ``source`` names the file of ``vectorizer`` in errors. Raises :class:`InputError` for choices
    and vocabularies that the tensors contradict.
    """
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
    require_sizes(fields, vectorizer, source)
    fields |= {"padding_idx": vocabulary.mask_index, "unk_idx": vocabulary.unk_index}
    return ClassifierConfig(**fields)


def require_agreement(choices: Choices, said: Any) -> None:
    """Raise :class:`InputError` where a file ``said`` something else than was chosen."""
    for name, value in choices.given().items():
        if isinstance(said, Mapping) and said.get(name, value) != value:
            raise InputError(
                f"{name} is {short(said[name])} in this file, not {value!r}; leave the option out"
            )


def require_sizes(fields: Mapping[str, Any], vectorizer: SurnameVectorizer, source: str) -> None:
    """Raise :class:`InputError` where the vocabularies of ``source`` do not fit ``fields``."""
    for field, tensor, vocabulary, of in (
        ("num_embeddings", "emb.weight", vectorizer.char_vocab, "characters"),
        ("num_classes", "fc2.weight", vectorizer.nationality_vocab, "nationalities"),
    ):
        if len(vocabulary) != fields[field]:
            raise InputError(
                f"tensor {tensor!r} has {fields[field]} rows, but {source} has "
                f"{len(vocabulary)} {of}"
            )
