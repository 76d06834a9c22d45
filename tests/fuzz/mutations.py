"""How files are damaged: bytes, then JSON, tables and safetensors by their structure.

Every function is a function of its arguments: the same :class:`random.Random` makes the same file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from random import Random
from typing import Any

ENTRY = "npnlp"
WORDS = ("0", "-1", "true", "null", "{}", "[]", '"', ",", "NaN", "1e999", "\0", "\n", "\u00e9")


#: Marks a text that stands in JSON as it is, whether it is JSON or not.
MARK = "\ue000"


def raw(text: str) -> str:
    return MARK + text


def deep(depth: int) -> str:
    return raw("[" * depth + "]" * depth)


#: What no field expects. Most are small: a large one costs time and finds little more.
HOSTILE: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 2**31, 2**53, 2**62, 2**63 - 1, 2**63, 2**64, -(2**63), 10**12,
    10**30, 0.5, 1.0, -0.0, 1e300, 5e-324, raw("NaN"), raw("Infinity"), raw("-Infinity"),
    raw("1e999"), raw("-1e999"), raw("1e-999"), raw("9" * 400), raw("9" * 5000), raw("-0"),
    raw("01"), raw("'"), raw(""), raw('"\\ud800"'), raw('"\\udfff\\ud800"'), raw('{"a":1,"a":2}'),
    "", " ", "\0", "a", "A" * 300, "e\u0301", "\u00e9", "\u212b", "\x1b[31m", "two\nlines",
    "../../outside", "/etc/passwd", "C:\\outside", "..", "__class__", "__metadata__", "elman",
    "gru", "lstm", "transformer", "last+last", "F32", "BF16", "F8_E4M3", "I64", "BOOL", "F64",
    [], {}, [0], [[]], [-1], [True], ["a"], [2**40, 2**40], [0, 2**60], [1] * 40, {"a": 1},
    {"": None}, {"self": 1}, {"token_to_idx": {}}, deep(20), deep(500), deep(5000),
)  # fmt: skip


def truncations(content: bytes) -> Iterator[bytes]:
    """Cut at every byte."""
    return (content[:length] for length in range(len(content)))


def header_flips(content: bytes) -> Iterator[bytes]:
    """Every bit of the header of a safetensors file, and of its length, flipped alone."""
    end = 8 + int.from_bytes(content[:8], "little")
    for place in range(8 * end):
        damaged = bytearray(content)
        damaged[place // 8] ^= 1 << place % 8
        yield bytes(damaged)


def noise(content: bytes, random: Random) -> bytes:
    """A few bytes changed, put in, taken out, or moved."""
    damaged = bytearray(content)
    for _ in range(random.choice((1, 1, 1, 2, 4, 8))):
        place = random.randrange(len(damaged) + 1)
        end = place + random.choice((1, 1, 2, 8, 64))
        kind = random.randrange(6)
        if kind == 0 and place < len(damaged):
            damaged[place] ^= 1 << random.randrange(8)
        elif kind == 1:
            damaged[place:end] = random.randbytes(end - place)
        elif kind == 2:
            damaged[place:place] = random.randbytes(end - place)
        elif kind == 3:
            del damaged[place:end]
        elif kind == 4:
            damaged[place:place] = damaged[place:end]
        else:
            damaged[place:end] = random.choice(WORDS).encode()
    return bytes(damaged)


# --- JSON


def text_of(value: Any) -> str:
    """JSON, with every :func:`raw` text in it as it is."""
    text = _written(value)
    return _MARKED.sub(lambda found: json.loads(f'"{found[1]}"'), text) if MARK in text else text


_written = json.JSONEncoder(ensure_ascii=False).encode
_MARKED = re.compile(f'"{MARK}((?:[^"\\\\]|\\\\.)*)"')


def copied(value: Any) -> Any:
    return json.loads(_written(value))


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a value."""
    found, waiting = [], [value]
    while waiting:
        inside = waiting.pop()
        if isinstance(inside, dict | list):
            keys = list(inside) if isinstance(inside, dict) else list(range(len(inside)))
            found += [(inside, key) for key in keys]
            waiting += [inside[key] for key in keys]
    return found


def hostile_json(value: Any, random: Random) -> Any:
    """A copy of ``value`` with something changed, missing, too much, or there twice."""
    root = [copied(value)]
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        found = places(root)
        container, key = random.choice(found)
        other, other_key = random.choice(found)
        kind = random.randrange(8)
        if kind <= 2:
            container[key] = copied(random.choice(HOSTILE))
        elif kind == 3 and container is not root:
            del container[key]
        elif kind == 4:
            container[key] = copied(other[other_key])
        elif kind == 5 and isinstance(container, dict):
            container[key_of(random)] = container.pop(key)
        elif kind == 6 and isinstance(container[key], dict):
            container[key][key_of(random)] = random.choice(HOSTILE)
        elif kind == 7 and isinstance(container[key], dict) and container[key]:
            inside = text_of(container[key])
            name = random.choice(list(container[key]))
            first = text_of({name: container[key][name]})
            container[key] = raw(f"{inside[:-1]},{first[1:]}")
        elif type(container[key]) is int:
            container[key] += random.choice((-1, 1, 7))
    return root[0]


def key_of(random: Random) -> str:
    """What no name is, as text."""
    value = random.choice(HOSTILE)
    return value if isinstance(value, str) and not value.startswith(MARK) else _written(value)


def hostile_json_text(content: bytes, random: Random) -> bytes:
    return encoded(text_of(hostile_json(_parsed(content), random)))


@lru_cache(maxsize=64)
def _parsed(content: bytes | str) -> Any:
    """Of a sample, which is copied before it is changed."""
    return json.loads(content)


def encoded(text: str) -> bytes:
    """UTF-8, in which half a surrogate pair is put down as if it could be."""
    return text.encode("utf-8", "surrogatepass")


# --- safetensors


def unpacked(content: bytes) -> tuple[dict[str, Any], bytes]:
    """The header and the bytes of the tensors."""
    end = 8 + int.from_bytes(content[:8], "little")
    return dict(_parsed(content[8:end])), content[end:]


def packed(header: Any, data: bytes) -> bytes:
    head = encoded(text_of(header))
    return len(head).to_bytes(8, "little") + head + data


def laid_out(tensors: dict[str, tuple[str, list[int], bytes]], metadata: Any) -> bytes:
    """A file whose offsets fit; what its tensors say may not."""
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": metadata}
    place, data = 0, []
    for name, (dtype, shape, content) in tensors.items():
        end = place + len(content)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [place, end]}
        data.append(content)
        place = end
    return packed(header, b"".join(data))


def hostile_header(content: bytes, random: Random) -> bytes:
    header, data = unpacked(content)
    return packed(hostile_json(header, random), data)


def hostile_metadata(content: bytes, random: Random) -> bytes:
    """Of the values that stand beside the tensors; of any metadata, where there are none."""
    header, data = unpacked(content)
    metadata = header.get("__metadata__", {})
    if ENTRY in metadata:
        changed = hostile_json(_parsed(metadata[ENTRY]), random)
        header["__metadata__"] = {**metadata, ENTRY: text_of(changed)}
    else:
        said: Any = random.choice(HOSTILE)
        header["__metadata__"] = said if random.random() < 0.5 else {ENTRY: text_of(said)}
    return packed(header, data)


#: Numbers of four bytes that are no weights: NaN, infinities, the largest, the smallest.
PATTERNS = tuple(bytes.fromhex(h) for h in (
    "0000c07f", "ffffffff", "0000807f", "000080ff", "ffff7f7f", "01000000", "00000000",
))  # fmt: skip
SIZES = {"F32": 4, "F64": 8, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "U8": 1, "BOOL": 1}


def hostile_tensors(content: bytes, random: Random) -> bytes:
    """The offsets fit; a tensor is missing, too many, of another name, shape, dtype or value."""
    header, data = unpacked(content)
    metadata = header.pop("__metadata__", None)
    tensors = {
        name: (entry["dtype"], entry["shape"], data[slice(*entry["data_offsets"])])
        for name, entry in header.items()
    }
    for _ in range(random.choice((1, 1, 1, 2))):
        if not tensors:
            break
        name = random.choice(list(tensors))
        dtype, shape, inside = tensors[name]
        kind = random.randrange(9)
        if kind == 0:
            del tensors[name]
        elif kind == 1:
            tensors[key_of(random)] = tensors[name]
        elif kind == 2:
            tensors[random.choice(list(tensors)) + random.choice(("_reverse", "1", "/../x"))] = (
                tensors.pop(name)
            )
        elif kind == 3:
            tensors[name] = (dtype, shape[::-1], inside)
        elif kind == 4:
            tensors[name] = (dtype, [1, *shape] if random.random() < 0.5 else [len(inside)], inside)
        elif kind == 5:
            new = random.choice(list(SIZES))
            count = len(inside) // SIZES.get(dtype, 4)
            tensors[name] = (new, shape, random.randbytes(count * SIZES[new]))
        elif kind == 6:
            place = 4 * random.randrange(len(inside) // 4 + 1)
            pattern = random.choice(PATTERNS)
            filled = pattern * (len(inside) // 4) if random.random() < 0.3 else None
            changed = inside[:place] + pattern + inside[place + 4 :]
            tensors[name] = (dtype, shape, filled or changed[: len(inside)])
        elif kind == 7:
            tensors[name] = (dtype, [0, *shape[1:]], b"")
        else:
            rows = random.choice((1, 2, 3, 5, 64))
            row = inside[: len(inside) // max(shape[0] if shape else 1, 1)]
            tensors[name] = (dtype, [rows, *shape[1:]], row * rows)
    return laid_out(tensors, metadata)


def hostile_length(content: bytes, random: Random) -> bytes:
    """Of the header: another one than it has, with bytes too few or too many."""
    header, rest = content[:8], content[8:]
    length = int.from_bytes(header, "little")
    wrong = random.choice((0, 1, length - 1, length + 1, len(content), 2**25 + 1, 10**8, 10**8 + 1,
                           2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64 - 1))  # fmt: skip
    if random.random() < 0.5:
        return wrong.to_bytes(8, "little") + rest
    return header + random.choice((rest[: len(rest) // 2], rest + b"\0", rest * 2, b"", rest[8:]))


# --- tables

MARKS = "a" + "\u0315\u0300" * 40
FIELDS = (
    "", " ", '"', '""', '"a', 'a"b', "\0", "\r", "\r\n", "\n", "\t", ",", ",,", ";", "\ufeff",
    "\u00a0", "\u2028", "\ud800", "e\u0301", "NaN", "null", "=1+1", "../../x", "\x1b[31m", "'",
    "nationality", "surname", "split", "train", "val", "dev", "x" * 200, "\U0001f600", MARKS,
)  # fmt: skip
BYTES = (b"\xff", b"\xfe", b"\x80", b"\xc3", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xc0\xaf")


def hostile_table(content: bytes, random: Random) -> bytes:
    """Rows or fields changed, and now and then a byte that is no UTF-8."""
    rows = [line.split(",") for line in content.decode("utf-8").splitlines()]
    for _ in range(random.choice((1, 1, 2, 3, 6))):
        row = random.choice(rows)
        place = random.randrange(len(row)) if row else 0
        kind = random.randrange(8)
        if kind <= 2 and row:
            row[place] = random.choice(FIELDS)
        elif kind == 3 and row:
            row[place] = row[place] + random.choice(FIELDS)
        elif kind == 4:
            row.insert(place, random.choice(FIELDS))
        elif kind == 5 and row:
            del row[place]
        elif kind == 6:
            rows.append(list(random.choice(rows)))
        elif kind == 7 and len(rows) > 1:
            del rows[random.randrange(len(rows))]
    end = random.choice(("\n", "\n", "\n", "\r\n", "\r"))
    damaged = encoded(end.join(",".join(row) for row in rows) + end)
    if random.random() < 0.1:
        place = random.randrange(len(damaged) + 1)
        damaged = damaged[:place] + random.choice(BYTES) + damaged[place:]
    return damaged


Mutation = Callable[[bytes, Random], bytes]
#: The mutations of each format, as often as they are tried.
MUTATIONS: dict[str, tuple[Mutation, ...]] = {
    "csv": (hostile_table, hostile_table, hostile_table, noise),
    "json": (hostile_json_text, hostile_json_text, hostile_json_text, noise),
    "safetensors": (hostile_header, hostile_metadata, hostile_metadata, hostile_tensors,
                    hostile_tensors, hostile_length, noise),
}  # fmt: skip


def mutant(format: str, content: bytes, random: Random) -> bytes:
    """``content`` damaged once, or now and then twice."""
    damaged = random.choice(MUTATIONS[format])(content, random)
    return noise(damaged, random) if random.random() < 0.05 else damaged
