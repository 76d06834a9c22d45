"""The weights of a Keras model in HDF5, read within limits. Only this file imports h5py.

HDF5 has links into other files, data sets that lie in them, filters that it loads as libraries, and
sizes that a file states and does not have. Here a group holds plain (hard) links only, and a data
set is floating-point numbers that lie in the file itself, uncompressed, as many bytes as its shape
says. Of the file only the group ``layers`` is looked at; an optimizer's state is not.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from npnlp.errors import InputError, short

SIGNATURE = b"\x89HDF\r\n\x1a\n"
LAYERS = "layers"
MOST_OBJECTS, DEEPEST = 10_000, 12
#: State of random numbers, which Keras keeps beside weights.
RANDOM = "seed_generator"
#: Groups that other versions of Keras have instead.
OLDER = {
    "model_weights": "a model in Keras's old format; in Keras: model.save('model.keras')",
    "_layer_checkpoint_dependencies": "of Keras 2; in Keras 3: model.save('model.keras')",
}


def read_hdf5(content: bytes) -> dict[str, NDArray[Any]]:
    """The arrays below ``layers`` by their path, as in ``lstm/cell/vars/0``.

    Raises :class:`InputError` for what is not as above.
    """
    if not content.startswith(SIGNATURE):
        raise InputError("it does not begin as an HDF5 file does")
    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            _require_layers(file)
            return dict(_arrays(file, len(content)))
    except InputError:
        raise
    except Exception as error:  # whatever a damaged file makes h5py raise
        why = short(" ".join(str(error).split()), 80)
        raise InputError(f"not a readable HDF5 file (h5py: {why})") from error


def _require_layers(file: Any) -> None:
    if LAYERS not in file:
        older = next((words for name, words in OLDER.items() if name in file), None)
        raise InputError(older or f"no group {LAYERS!r}, which the weights of Keras 3 have")


def _arrays(file: Any, size: int) -> Iterator[tuple[str, NDArray[Any]]]:
    """Breadth first, without recursion; a group that holds itself is too deep."""
    waiting = [(LAYERS, _linked(file, LAYERS), 0)]
    left, room = MOST_OBJECTS, size
    while waiting:
        path, group, depth = waiting.pop()
        if depth > DEEPEST:
            raise InputError(f"group {short(path)}: more than {DEEPEST} deep")
        for name in group:
            left -= 1
            if left < 0:
                raise InputError(f"more than {MOST_OBJECTS:,} groups and arrays")
            inside = f"{path}/{name}"
            if name == RANDOM:
                continue
            found = _linked(group, name)
            if isinstance(found, h5py.Group):
                waiting.append((inside, found, depth + 1))
            elif isinstance(found, h5py.Dataset):
                _require_plain(found, inside, room)
                room -= found.nbytes
                yield inside.removeprefix(f"{LAYERS}/"), found[()]
            else:
                raise InputError(f"{short(inside)} is no group and no array")


def _linked(group: Any, name: str) -> Any:
    """What ``name`` is in the file itself; a link to elsewhere is not followed."""
    link = group.get(name, getlink=True)
    if type(link) is not h5py.HardLink:
        raise InputError(f"{short(name)} is a link to elsewhere, which is not followed")
    return group[name]


def _require_plain(found: Any, path: str, room: int) -> None:
    if found.dtype.kind != "f" or found.dtype.itemsize not in (2, 4, 8):
        raise InputError(f"array {short(path)} is of {short(str(found.dtype))}, not of "
                         "float16, float32 or float64")  # fmt: skip
    if found.is_virtual or found.external:
        raise InputError(f"array {short(path)} lies in another file, which is not read")
    if found.chunks is not None:
        raise InputError(f"array {short(path)} is chunked or compressed; Keras writes plain ones")
    if found.shape is None or found.ndim > 4 or found.nbytes > room:
        raise InputError(f"array {short(path)} has shape {short(found.shape)}, more than the file")
    if found.id.get_storage_size() != found.nbytes:
        raise InputError(f"array {short(path)} has not the bytes of its shape {found.shape}")


def hdf5_of(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """The content of a file with these arrays below ``layers``."""
    target = io.BytesIO()
    with h5py.File(target, "w") as file:
        for path, array in arrays.items():
            file[f"{LAYERS}/{path}"] = np.asarray(array, array.dtype.newbyteorder("<"), order="C")
    return target.getvalue()
