"""JSON that others wrote is read strictly, and within limits."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import safetensors
from hypothesis import given
from hypothesis import strategies as st

from npnlp.errors import InputError, short
from npnlp.files.plain_json import DEEPEST, FREE_VALUES, parse_json, to_json
from npnlp.files.tensors import ENTRY, save_tensors

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inside: st.lists(inside) | st.dictionaries(st.text(), inside),
    max_leaves=20,
)


@given(VALUES, st.booleans())
def test_what_python_writes_is_read(value: Any, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    for content in (text, text.encode()):
        assert parse_json(content) == value


def test_what_is_written_is_json_whatever_the_numbers() -> None:
    value = {"a": [1.5, math.nan, (math.inf, -math.inf)], "b": {"c": math.nan}, "d": "NaN"}
    expected = {"a": [1.5, None, [None, None]], "b": {"c": None}, "d": "NaN"}
    assert parse_json(to_json(value)) == expected


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "Expecting value"), ("{", "Expecting"), ("[1,]", "Expecting"), ("nul", "Expecting"),
        ('{"a": NaN}', "'a' is nan"), ('{"a": {"b": Infinity}}', "'b' is inf"),
        ('{"a": [0, -Infinity]}', "'a' is -inf"), ('{"a": 1e999}', "'a' is inf"),
        ('{"a": 9223372036854775808}', "'a' is a whole number beyond"),
        ('{"a": -9223372036854775809}', "'a' is a whole number beyond"),
        ('{"a": ' + "9" * 10_000 + "}", "'a' is a whole number beyond"),
        ('{"a": 1, "b": 2, "a": 3}', "'a' stands there twice"),
        ('{"x": {"": 1, "": 2}}', "'' stands there twice"),
        ('{"a": "\\ud800"}', "'a' holds half a surrogate pair"),
        ('{"a": ["\\udc00 "]}', "'a' holds half a surrogate pair"),
        ('{"\\udfff": 1}', "holds half a surrogate pair"),
        ("[" * (DEEPEST + 1) + "]" * (DEEPEST + 1), "deep"),
        ("[" * 60_000, "deep"), ('{"a": ' * 60_000, "deep"),
        ("[" + "0," * FREE_VALUES * 2 + "0]", "values in"),
        ('"\x00"', "control character"), ("\ufeff{}", "BOM"),
    ],
    ids=lambda text: text[:20],
)  # fmt: skip
def test_what_it_never_writes_is_refused_in_one_line(text: str, word: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_json(text)
    assert word in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("content", [b"\xff", b'"\xed\xa0\x80"', b"{\x80}"])
def test_bytes_that_are_no_utf_8_are_refused(content: bytes) -> None:
    with pytest.raises(InputError, match="utf-8"):
        parse_json(content)


def test_infinity_may_be_let_pass_and_nan_never() -> None:
    assert parse_json('{"a": Infinity}', infinity=True) == {"a": math.inf}
    with pytest.raises(InputError, match="'a' is nan"):
        parse_json('{"a": NaN}', infinity=True)


def test_as_deep_as_allowed_is_read() -> None:
    text = "[" * DEEPEST + "]" * DEEPEST
    assert json.dumps(parse_json(text)) == text


@pytest.mark.parametrize(
    "value",
    ["x" * 10**6, "a\nb", "\x1b[31m", [0] * 10**5, "\ud800", {"a": "\u202e"}, 10**400, None],
)  # fmt: skip
def test_a_value_in_a_message_is_short_and_printable(value: Any) -> None:
    assert len(short(value)) <= 60
    assert short(value).isprintable()


def test_the_metadata_of_tensors_is_json(tmp_path: Path) -> None:
    save_tensors(tmp_path / "file", "a kind", {}, {"best": math.inf})
    with safetensors.safe_open(tmp_path / "file", framework="numpy") as file:
        assert parse_json(file.metadata()[ENTRY])["best"] is None
