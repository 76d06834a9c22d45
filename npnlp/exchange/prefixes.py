"""Names of tensors as wrappers leave them: a prefix of all, a word within, a counter beside.

module.emb.weight            nn.DataParallel, DistributedDataParallel, AveragedModel
_orig_mod.emb.weight         torch.compile of the model
rnn._orig_mod.weight_ih_l0   torch.compile of a part
model.emb.weight             a class around the model
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from numpy.typing import NDArray

from npnlp.errors import InputError, short

#: Words that PyTorch's own wrappers put into names.
WRAPPERS = ("module", "_orig_mod")
#: What ``torch.optim.swa_utils.AveragedModel`` counts; no weight.
COUNTER = "n_averaged"
#: How a model's own names begin: no prefix.
OWN = ("emb", "rnn", "pool", "ngrams", "fc1", "fc2")
#: The most names that a message lists.
MOST_LISTED = 20


def plain_names(
    state: Mapping[str, NDArray[Any]],
) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """``state`` under its names without wrappers, and what was done, for people.

    Raises :class:`InputError` where two tensors would have one name.
    """
    said: list[str] = []
    names = {name: name for name in state}
    if COUNTER in names:
        del names[COUNTER]
        said.append(f"without the counter {COUNTER}")
    prefix = _common_prefix(names.values())
    if prefix:
        names = {name: plain.removeprefix(prefix) for name, plain in names.items()}
        said.append(f"without the prefix {short(prefix)} of all tensors")
    for word in WRAPPERS:
        without = {name: _without(plain, word) for name, plain in names.items()}
        example = next((name for name in names if without[name] != names[name]), None)
        if example is not None:
            said.append(f"without {word!r} in names such as {short(example)}")
        names = without
    plain: dict[str, NDArray[Any]] = {}
    for name, short_name in names.items():
        if short_name in plain:
            raise InputError(
                f"tensor {short(short_name)} is there twice, with and without a wrapper"
            )
        plain[short_name] = state[name]
    return plain, said


def _common_prefix(names: Iterable[str]) -> str:
    """The words that all names begin with, a model's own aside."""
    parts = [name.split(".") for name in names]
    prefix = ""
    while parts and all(len(each) > 1 for each in parts):
        heads = {each[0] for each in parts}
        head = heads.pop()
        if heads or head in OWN:
            break
        prefix += f"{head}."
        parts = [each[1:] for each in parts]
    return prefix


def _without(name: str, word: str) -> str:
    *path, last = name.split(".")
    return ".".join([*(part for part in path if part != word), last])


def listed(names: Iterable[str]) -> str:
    """Names for a message, in order, and how many more there are."""
    ordered = sorted(names)
    more = len(ordered) - MOST_LISTED
    shown = ", ".join(short(name).strip("'") for name in ordered[:MOST_LISTED])
    return shown + (f" and {more} more" if more > 0 else "") if ordered else "none"
