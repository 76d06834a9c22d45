"""A Keras file as this project's tensors: ``.keras``, or ``.weights.h5``, which is weights only."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from npnlp.errors import InputError, short
from npnlp.exchange.frameworks.cells import Array
from npnlp.exchange.frameworks.hdf5 import read_hdf5
from npnlp.exchange.frameworks.keras_archive import CONFIG, OWN, WEIGHTS, read_archive
from npnlp.exchange.frameworks.keras_config import layers_of
from npnlp.exchange.frameworks.keras_plan import UNMASKED, WAYS, Plan, plan_of
from npnlp.exchange.frameworks.parts import Arrays, Found, Parts, state_of
from npnlp.exchange.frameworks.table import (
    KERAS_GRU_AFTER,
    KERAS_GRU_BEFORE,
    KERAS_LSTM,
    KERAS_RNN,
)
from npnlp.files.plain_json import parse_json

#: Names of a cell's arrays, by their number in the file.
NAMES = ("kernel", "recurrent_kernel", "bias")
CELL_PATH = re.compile(r"(simple_rnn|gru|lstm|bidirectional)(?:_([0-9]{1,4}))?")
DENSE_PATH = re.compile(r"dense(?:_([0-9]{1,4}))?")
ASSUMED = "activations are taken to be Keras's own, and the hidden layer's relu: weights do not say"
BY_GATES = {1: KERAS_RNN, 3: KERAS_GRU_AFTER, 4: KERAS_LSTM}


def keras_found(content: bytes) -> Found:
    """What a ``.keras`` archive holds; raises :class:`InputError` without the file's name."""
    members = read_archive(content)
    plan = plan_of(layers_of(members[CONFIG]))
    try:
        arrays = read_hdf5(members[WEIGHTS])
    except InputError as error:
        raise InputError(f"{WEIGHTS}: {error}") from error
    found = _found(plan, arrays)
    return _with_own(found, members[OWN]) if OWN in members else found


def weights_found(content: bytes, reset: str | None) -> Found:
    """What a ``.weights.h5`` file holds; ``reset`` says which a GRU without biases is."""
    arrays = read_hdf5(content)
    return _found(_plan_of_weights(arrays, reset), arrays)


def _found(plan: Plan, arrays: Mapping[str, Array]) -> Found:
    embedding = _at(arrays, plan.embedding, ("embeddings",), plan.embedding)["embeddings"]
    if embedding.ndim != 2 or 0 in embedding.shape:
        raise InputError(f"{plan.embedding} has shape {embedding.shape}, not two axes")
    layers = [[_at(arrays, path, NAMES, path) for path in paths] for paths in plan.cells]
    linear = []
    for path in plan.linear:
        own = _at(arrays, path, ("kernel", "bias"), path)
        kernel = own["kernel"]
        if kernel.ndim != 2 or 0 in kernel.shape:
            raise InputError(f"{path}: the kernel has shape {kernel.shape}, not two axes")
        linear.append((kernel, own.get("bias", np.zeros(kernel.shape[1], kernel.dtype))))
    parts = Parts(plan.row, embedding, layers, linear)
    state = state_of(parts, [paths[0] for paths in plan.cells])
    return Found(state, plan.says, plan.trains, notes=plan.notes)


def _at(
    arrays: Mapping[str, Array], path: str, names: tuple[str, ...], where: str
) -> Arrays:  # fmt: skip
    """The arrays of a layer by name; the file numbers them. Those of biases may be missing."""
    start = f"{path}/vars/"
    found = {name.removeprefix(start): v for name, v in arrays.items() if name.startswith(start)}
    numbers = {str(number): name for number, name in enumerate(names)}
    for number in sorted(found.keys() - numbers.keys()):
        raise InputError(f"{short(start + number)} is one array too many")
    if "0" not in found:
        raise InputError(f"no weights at {start}0: the configuration and the weights are not of "
                         "one model")  # fmt: skip
    return {numbers[number]: value for number, value in found.items()}


def _with_own(found: Found, content: bytes) -> Found:
    """With the vocabularies, and what only training uses, that an export put beside the model."""
    try:
        own = parse_json(content)
    except InputError as error:
        raise InputError(f"{OWN}: {error}") from error
    if not isinstance(own, dict) or not isinstance(own.get("trains"), dict):
        raise InputError(f"{OWN}: not what npnlp writes there")
    return Found(found.state, found.says, own["trains"], own.get("vectorizer"), notes=found.notes)


def _plan_of_weights(arrays: Mapping[str, Array], reset: str | None) -> Plan:
    """The plan that paths and shapes allow; layers are numbered by class."""
    tops = sorted({path.split("/")[0] for path in arrays})
    cells = {top: match for top in tops if (match := CELL_PATH.fullmatch(top))}
    dense = {top: match for top in tops if (match := DENSE_PATH.fullmatch(top))}
    for top in tops:
        if top not in cells and top not in dense and top != "embedding":
            raise InputError(f"a layer {short(top)} has weights, which is none of embedding, "
                             "simple_rnn, gru, lstm, bidirectional and dense")  # fmt: skip
    kinds = {match[1] for match in cells.values()}
    if len(kinds) != 1 or not 1 <= len(dense) <= 2:
        raise InputError(f"{len(kinds)} kinds of recurrent layers and {len(dense)} dense ones; a "
                         "model here has one kind, and one or two")  # fmt: skip
    plan = Plan("embedding", notes=[ASSUMED, UNMASKED.replace("without", "if without")])
    both = kinds == {"bidirectional"}
    for top in sorted(cells, key=lambda name: int(cells[name][2] or 0)):
        plan.cells.append([f"{top}/{way}/cell" for way in WAYS] if both else [f"{top}/cell"])
    plan.linear = sorted(dense, key=lambda name: int(dense[name][1] or 0))
    _set_row(plan, _at(arrays, plan.cells[0][0], NAMES, plan.cells[0][0]), reset)
    return plan


def _set_row(plan: Plan, first: Arrays, reset: str | None) -> None:
    """The row of the table, by the number of gates and the shape of the bias."""
    recurrent = first.get("recurrent_kernel", np.zeros((0, 0)))
    gates = recurrent.shape[1] // max(recurrent.shape[0], 1) if recurrent.ndim == 2 else 0
    if gates not in BY_GATES:
        raise InputError(f"{plan.cells[0][0]}: the recurrent kernel has shape {recurrent.shape}; "
                         "its columns have to be 1, 3 or 4 times its rows")  # fmt: skip
    plan.row = BY_GATES[gates]
    if plan.row.cell != "gru":
        return
    if "bias" in first:
        plan.row = KERAS_GRU_BEFORE if first["bias"].ndim == 1 else KERAS_GRU_AFTER
    elif reset is None:
        raise InputError(
            "a GRU without biases, which does not say whether its reset gate comes "
            "before or after the product; say --reset before or --reset after"
        )
    elif reset == "before":
        plan.row = KERAS_GRU_BEFORE
    plan.says["reset"] = plan.row.reset
