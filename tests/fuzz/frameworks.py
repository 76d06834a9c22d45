"""The readers of Keras's and Flax's files, and how these are damaged.

HDF5 files are damaged by bytes, most of all where the library keeps its structures, and made anew
with what a weights file never has: links, data sets in other files, compression, other types.
"""

from __future__ import annotations

import io
import re
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from npnlp.classifier.classifier import Classifier
from npnlp.classifier.weights import ROOM, SMALL
from npnlp.exchange.foreign import read_model, write_model
from npnlp.exchange.frameworks.flax_msgpack import msgpack_of, read_msgpack
from tests.fuzz.mutations import hostile_json_text, key_of, noise
from tests.fuzz.targets import Target, check_vectorizer, look_at_classifier
from tests.support.exchange import made, vectorizer_file

#: How many of ten thousand inputs each reader gets.
SHARES = {"keras": 4000, "hdf5": 3000, "msgpack": 3000}
SUFFIXES = {"keras": ".keras", "hdf5": ".weights.h5", "msgpack": ".msgpack"}
SHAPES: tuple[dict[str, Any], ...] = (
    {"cell": "gru", "bidirectional": True}, {"cell": "lstm", "num_layers": 2, "pooling": "mean"},
    {"cell": "elman", "hidden_layer": False}, {"cell": "gru"},
)  # fmt: skip
SIZES = {"embedding_size": 2, "rnn_hidden_size": 3}


def framework_targets(folder: Path, *names: str) -> dict[str, Target]:
    """Of these names; their files are made in ``folder``. Keras's need h5py."""
    vectorizer = vectorizer_file(folder)
    found = {}
    for name in names:
        suffix = SUFFIXES[name]
        samples = []
        for fields in SHAPES:
            path = folder / f"sample{suffix}"
            write_model(made(**SIZES, **fields), path, "flax" if name == "msgpack" else "keras")
            samples.append(path.read_bytes())
            read_model(path, vectorizer)  # for what Python loads when it reads its first archive
        found[name] = Target(name, name, tuple(samples), lambda path: read_model(path, vectorizer),
                             check_foreign, look_at_classifier, suffix=suffix)  # fmt: skip
    return found


def check_foreign(classifier: Classifier, content: bytes) -> None:
    check_vectorizer(classifier.vectorizer, content)
    values, config = classifier.model.flat.values, classifier.model.config
    assert np.isfinite(values).all()
    assert values.size == config.parameter_count <= max(ROOM * len(content), SMALL)
    assert len(classifier.vectorizer.char_vocab) == config.num_embeddings
    assert len(classifier.vectorizer.nationality_vocab) == config.num_classes


# --- archives


def members_of(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def zipped(members: list[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", compression) as archive:
        for name, content in members:
            info = zipfile.ZipInfo(name)
            info.compress_type = compression
            archive.writestr(info, content)
    return target.getvalue()


def hostile_member(content: bytes, random: Random) -> bytes:
    """One member damaged in its own way; now and then the archive is compressed."""
    members = members_of(content)
    name = random.choice(("config.json", "config.json", "npnlp.json", "model.weights.h5"))
    damage = hostile_hdf5 if name.endswith(".h5") else hostile_json_text
    members[name] = damage(members[name], random)
    methods = (zipfile.ZIP_STORED,) * 4 + (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)
    return zipped(list(members.items()), random.choice(methods))


def hostile_archive(content: bytes, random: Random) -> bytes:
    """A member missing, too many, of another name, or not what the directory says."""
    members = list(members_of(content).items())
    place = random.randrange(len(members))
    kind = random.randrange(6)
    if kind == 0:
        del members[place]
    elif kind == 1:
        members.append((random.choice(("../x", "/x", "a/../../x", "C:x", "\\x")), b"x"))
    elif kind == 2:
        members[place] = (key_of(random).replace("\0", "") or "x", members[place][1])
    elif kind == 3:
        members[place] = (members[place][0], b"\0" * random.choice((0, 10, 10**6)))
        return zipped(members, zipfile.ZIP_DEFLATED)
    damaged = bytearray(zipped(members))
    if kind >= 4:  # in a header of a member, or of the directory
        heads = [m.start() for m in re.finditer(rb"PK(?:\x01\x02|\x03\x04|\x05\x06)", damaged)]
        at = random.choice(heads) + random.randrange(4, 46)
        damaged[at : at + random.choice((1, 2, 4))] = random.choice(EDGES)[: random.choice((1, 4))]
    return bytes(damaged)


# --- HDF5

EDGES = tuple(
    number.to_bytes(8, "little")
    for number in (0, 1, 8, 255, 2**15, 2**31 - 1, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1)
)
#: Where HDF5's trees, heaps, tables of names and headers of objects begin.
STRUCTURE = re.compile(
    rb"TREE|HEAP|SNOD|\x89HDF|\x01\x00[\x01-\x09]\x00\x01\x00\x00\x00", re.DOTALL
)


def hostile_structure(content: bytes, random: Random) -> bytes:
    """Numbers changed near the beginnings of structures."""
    damaged = bytearray(content)
    starts = [found.start() for found in STRUCTURE.finditer(content)] or [0]
    for _ in range(random.choice((1, 1, 2, 4))):
        at = min(random.choice(starts) + random.randrange(48), len(damaged) - 1)
        kind = random.randrange(3)
        if kind == 0:
            damaged[at] ^= 1 << random.randrange(8)
        else:
            width = random.choice((1, 2, 4, 8))
            number = random.randrange(len(content)).to_bytes(8, "little")
            damaged[at : at + width] = (random.choice(EDGES) if kind == 1 else number)[:width]
    return bytes(damaged[: len(content)])


def hostile_objects(content: bytes, random: Random) -> bytes:
    """A whole file of HDF5, with an object of another kind, name, shape or place."""
    import h5py

    target = io.BytesIO(content)
    with h5py.File(target, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        name = random.choice([each for each in names if "vars/" in each])
        value = file[name][()]
        del file[name]
        kind = random.randrange(14)
        if kind == 0:
            file[name] = h5py.ExternalLink("/etc/passwd", "/x")
        elif kind == 1:
            file[name] = h5py.SoftLink(random.choice(names))
        elif kind == 2:
            file.create_dataset(name, value.shape, "f4", external=[("/etc/passwd", 0, 4096)])
        elif kind == 3:
            file.create_dataset(name, data=value, chunks=value.shape, compression="gzip")
        elif kind == 4:
            file[name] = value.astype(random.choice(("i4", "u1", "f2", "f8", "c8", ">f4")))
        elif kind == 5:
            file[name] = random.choice((value.T, value.reshape(-1), value[:1], value[None]))
        elif kind == 6:  # a shape that no bytes were ever written for
            shape = random.choice(((2**40,), (2**20, 2**20), (10**4, 10**4), (0, 5), ()))
            file.create_dataset(name, shape, "f4")
        elif kind == 7:
            layout = h5py.VirtualLayout(value.shape, "f4")
            layout[...] = h5py.VirtualSource("/etc/passwd", "x", value.shape)
            file.create_virtual_dataset(name, layout)
        elif kind == 8:
            file[name] = random.choice(("text", b"bytes", np.zeros(3, "S5"), h5py.Empty("f4")))
        elif kind == 9:
            file[name] = np.zeros(2, [("a", "f4"), ("b", "i4")])
        elif kind == 10:  # a group that holds one above it
            file[name] = file[random.choice(["/", "layers", name.split("/vars")[0]])]
        elif kind == 11:
            file[f"layers/{random.choice(KEYS)}/vars/0"] = value
        elif kind == 12:
            value.reshape(-1)[random.randrange(value.size)] = random.choice((np.nan, np.inf, 1e38))
            file[name] = value
    return target.getvalue()


KEYS = ("dense_7", "lstm", "gru_1", "x" * 300, "\u00e9", "embedding_1", "bidirectional")


def hostile_hdf5(content: bytes, random: Random) -> bytes:
    ways = (hostile_structure, hostile_structure, hostile_objects, noise)
    return random.choice(ways)(content, random)


# --- msgpack


def hostile_tree(content: bytes, random: Random) -> bytes:
    """Parameters missing, too many, of another name, shape, dtype or value."""
    tree = dict(parsed(content))
    for _ in range(random.choice((1, 1, 2))):
        path = random.choice(list(tree))
        value, kind = np.array(tree[path]), random.randrange(8)
        if kind == 0:
            del tree[path]
        elif kind == 1:
            at = random.randrange(len(path))
            tree[(*path[:at], key_of(random), *path[at + 1 :])] = tree.pop(path)
        elif kind == 2:
            tree[(*path, "more")] = tree.pop(path)
        elif kind == 3:
            tree[path] = random.choice((value.T, value.reshape(-1), value[None], value[:1]))
        elif kind == 4:
            tree[path] = value.astype(random.choice(("i4", "u1", "f2", "f8", "bool")))
        elif kind == 5:
            value.reshape(-1)[:1] = random.choice((np.nan, np.inf, 3e38))
            tree[path] = value
        elif kind == 6:
            tree[("params", random.choice(KEYS), "kernel")] = value
        else:
            other = random.choice(list(tree))
            tree[path], tree[other] = tree[other], tree[path]
        if not tree:
            break
    return msgpack_of({path: value for path, value in tree.items() if no_leaf(path, tree)})


def no_leaf(path: tuple[str, ...], tree: Any) -> bool:
    """A path cannot go on where another one ends."""
    return not any(path[:at] in tree for at in range(1, len(path)))


def parsed(content: bytes) -> dict[tuple[str, ...], Any]:
    key = zlib.crc32(content)
    if key not in PARSED:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "a.msgpack"
            path.write_bytes(content)
            PARSED[key] = read_msgpack(path)
    return PARSED[key]


PARSED: dict[int, dict[tuple[str, ...], Any]] = {}
#: First bytes of msgpack's values, with lengths, and values that no such file has.
CODES = (
    b"\xdf\xff\xff\xff\xff", b"\xde\xff\xff", b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff",
    b"\xc9\xff\xff\xff\x7f\x01", b"\xdb\xff\xff\xff\xff", b"\xc7\x03\x02\x92\x00\x00", b"\xc0",
    b"\xc1", b"\xc2", b"\xcb" + b"\xff" * 8, b"\xcf" + b"\xff" * 8, b"\xd3" + b"\xff" * 8,
    b"\xff", b"\x81" * 40, b"\x81\xa1a" * 400, b"\x80" * 3, b"\xd4\x01\x00", b"\xc7\x00\x63",
)  # fmt: skip


def hostile_codes(content: bytes, random: Random) -> bytes:
    """A value of another kind or length where one begins, or anywhere."""
    starts = [found.end() for found in re.finditer(rb"[a-z0-9_]{2,}", content)] or [0]
    at = random.choice(starts) if random.random() < 0.8 else random.randrange(len(content))
    code = random.choice(CODES)
    return content[:at] + code + content[at + random.choice((0, 1, len(code))) :]


def foreign_mutant(format: str, content: bytes, random: Random) -> bytes:
    """``content`` damaged once, or now and then twice."""
    ways: dict[str, tuple[Callable[[bytes, Random], bytes], ...]] = {
        "keras": (hostile_member, hostile_member, hostile_member, hostile_archive, noise),
        "hdf5": (hostile_hdf5,),
        "msgpack": (hostile_tree, hostile_codes, noise),
    }
    damaged = random.choice(ways[format])(content, random)
    return noise(damaged, random) if random.random() < 0.05 else damaged
