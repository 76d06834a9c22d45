"""Files that ask for far more memory than they have bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.fuzz.mutations import ENTRY, deep, laid_out, packed, text_of, unpacked
from tests.fuzz.targets import Target

MILLION = 10**6


def greedy(target: Target) -> Iterator[tuple[str, bytes]]:
    """Such files for a target, each with what it is."""
    sample = target.samples[0]
    if target.format == "csv":
        row = b"Aa,train,a\n"
        yield "short fields", b"nationality,split,surname\n" + row * 15_000 + b"x\n"
        yield "many columns", b"nationality,split,surname" + b",a" * 200_000 + b"\n" + row
        yield "many lines", b"nationality,surname\n" + b"\n" * 125_000
        yield "a long field", b"nationality,surname\nAa," + b"a" * 2_000_000
        yield "wide characters", ("nationality,surname\nAa," + "\U0001f600" * 300_000).encode()
    elif target.format == "json":
        for name, value in dense():
            yield name, value.encode()
        said = json.loads(sample)
        said["char_vocab"]["token_to_idx"] = {f"t{n}": 2 * n for n in range(10_000)}
        yield "numbers with gaps", text_of(said).encode()
    else:
        header, data = unpacked(sample)
        first = next(name for name in header if name != "__metadata__")
        for shape in ([2**40], [2**20, 2**20], [2**62], [0, 2**40], [1] * 10_000):
            bad: dict[str, Any] = header | {first: header[first] | {"shape": shape}}
            yield f"shape {shape[:4]}", packed(bad, data)
        for end in (2**40, 2**62):
            bad = header | {first: {"dtype": "U8", "shape": [end], "data_offsets": [0, end]}}
            yield f"{end} bytes", packed(bad, data)
        for length in (2**31, 2**40, 2**63, 2**64 - 1):
            yield f"a header of {length}", length.to_bytes(8, "little") + sample[8:]
        tensors = {f"t{n}": ("F32", [1], b"\0\0\0\0") for n in range(5_000)}
        yield "many tensors", laid_out(tensors, header.get("__metadata__"))
        for name, value in dense():
            yield f"metadata: {name}", packed({"__metadata__": {ENTRY: value}}, b"")
            yield f"header: {name}", headed(value)
        if ENTRY in header.get("__metadata__", {}):
            yield from greedy_configurations(header, data)


def greedy_configurations(header: dict[str, Any], data: bytes) -> Iterator[tuple[str, bytes]]:
    said = json.loads(header["__metadata__"][ENTRY])
    if "config" not in said:  # that of a checkpoint has to be that of the run
        return
    for field, value in (("rnn_hidden_size", 5000), ("embedding_size", MILLION),
                         ("rnn_hidden_size", 10**12), ("num_layers", 256), ("num_layers", 30_000),
                         ("num_layers", 10**9), ("num_classes", MILLION),
                         ("num_embeddings", MILLION), ("num_ngrams", 10**6)):  # fmt: skip
        changed = said | {"config": said["config"] | {field: value}}
        metadata = {**header["__metadata__"], ENTRY: json.dumps(changed)}
        yield f"{field} {value}", packed({**header, "__metadata__": metadata}, data)


def dense() -> Iterator[tuple[str, str]]:
    """JSON whose values take many times its text."""
    yield "empty lists", "[" + ",".join(["[]"] * 300_000) + "]"
    yield "tables", "[" + ",".join(['{"a":0}'] * 150_000) + "]"
    yield "small texts", "[" + ",".join(['"\u00e9\u00e9"'] * 200_000) + "]"
    yield "numbers", "[" + ",".join(["1e1"] * 300_000) + "]"
    yield "deep", text_of(deep(50_000))
    yield "one number", "9" * 2_000_000
    yield "one text", '"' + "\u00e9" * 500_000 + '"'


def headed(header: str) -> bytes:
    content = header.encode()
    return len(content).to_bytes(8, "little") + content


def hollow(path: Path, header: int, size: int) -> Path:
    """A file of ``size`` bytes, on the disk only where something stands in it."""
    with path.open("wb") as file:
        file.write(header.to_bytes(8, "little") + b'{"__metadata__":{"x":"')
        file.truncate(size)
    return path
