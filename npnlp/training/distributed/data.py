"""One rank reads the table, and the others are sent what they train on."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import safetensors.numpy

from npnlp.text import SurnameDataset, SurnameVectorizer
from npnlp.text.rows import Coded, Rows
from npnlp.text.texts import Texts
from npnlp.training.ranks import Alone


def dataset_of_first(ranks: Alone, make: Callable[[], SurnameDataset]) -> SurnameDataset:
    """The dataset that ``make`` gives on rank 0; the other ranks have its rows of train and val.

    An error there is raised on all ranks; see :meth:`Alone.first_does`.
    """
    if ranks.size == 1:
        return make()
    made: list[SurnameDataset] = []

    def columns() -> bytes:
        made.append(make())
        return _columns(made[0])

    sent = ranks.first_does(columns)
    described = ranks.first_does(lambda: _description(made[0]))
    return made[0] if made else _dataset(sent, json.loads(described))


def _trained(dataset: SurnameDataset) -> Rows:
    rows = dataset.rows
    return rows.take(np.sort(np.concatenate([rows.places("train"), rows.places("val")])))


def _columns(dataset: SurnameDataset) -> bytes:
    rows = _trained(dataset)
    assert rows.splits is not None
    return safetensors.numpy.save({
        "content": rows.names.content, "ends": rows.names.ends,
        "labels": rows.labels.codes, "splits": rows.splits.codes,
    })  # fmt: skip


def _description(dataset: SurnameDataset) -> bytes:
    rows = dataset.rows
    assert rows.splits is not None
    return json.dumps({
        "labels": list(rows.labels.values), "splits": list(rows.splits.values),
        "label": rows.label, "vectorizer": dataset.get_vectorizer().to_serializable(),
    }).encode()  # fmt: skip


def _dataset(content: bytes, described: dict[str, Any]) -> SurnameDataset:
    sent = safetensors.numpy.load(content)
    labels, splits = (Coded(sent[name], described[name]) for name in ("labels", "splits"))
    rows = Rows(Texts(sent["content"], sent["ends"]), labels, splits, label=described["label"])
    return SurnameDataset(rows, SurnameVectorizer.from_serializable(described["vectorizer"]))
