"""Files that are written whole or not at all; tensors on the disk."""

from __future__ import annotations

import csv
import json
import math
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from npnlp.errors import InputError
from npnlp.files import write_atomic, write_csv, write_json, write_parts
from npnlp.files.tensor_file import DTYPES, tensor_file_parts
from npnlp.files.tensors import FORMAT_VERSION, load_tensors, save_tensors

KIND = "npnlp test"
Rows = list[dict[str, Any]]


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def permissions(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("content", ["caf\u00e9\n", "a\r\nb\n", b"\x00\xff", ""])
def test_content_is_written_as_it_is(tmp_path: Path, content: str | bytes) -> None:
    write_atomic(tmp_path / "file", content)
    expected = content.encode("utf-8") if isinstance(content, str) else content
    assert (tmp_path / "file").read_bytes() == expected


def test_old_content_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("a much longer old content")
    write_atomic(str(path), "new")
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_what_cannot_be_encoded_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_atomic(path, "\ud800")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_folder_in_the_way_is_left_and_so_is_no_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.mkdir()
    (path / "inside").write_text("kept")
    with pytest.raises(OSError, match="directory"):
        write_atomic(path, "new")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert (path / "inside").read_text() == "kept"


@pytest.mark.skipif(os.name != "posix", reason="limits on file sizes are POSIX's")
def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk; the write fails half-way."""
    import resource
    import signal

    path = tmp_path / "file"
    path.write_text("old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(OSError, match=r"[Tt]oo large"):
            write_atomic(path, b"x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path: Path) -> None:
    path, found = tmp_path / "pipe", []
    os.mkfifo(path)
    reader = threading.Thread(target=lambda: found.append(path.read_bytes()))
    reader.start()
    write_atomic(path, b"content")
    reader.join(timeout=30)
    assert found == [b"content"]
    assert stat.S_ISFIFO(path.stat().st_mode)


@pytest.mark.skipif(not Path("/dev/stdout").exists(), reason="no /dev/stdout on this system")
def test_standard_output_by_its_name_is_not_replaced(tmp_path: Path) -> None:
    code = "from npnlp.files import write_atomic; write_atomic('/dev/stdout', 'content')"
    output = tmp_path / "output"
    with output.open("wb") as file:
        subprocess.run([sys.executable, "-c", code], stdout=file, check=True)
    assert output.read_bytes() == b"content"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True)
    assert done.stdout == b"content"
    assert not Path("/dev/stdout").is_file() or Path("/dev/stdout").is_symlink()


def test_an_error_names_the_file_that_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "no folder" / "file"
    with pytest.raises(FileNotFoundError) as caught:
        write_atomic(path, "new")
    assert caught.value.filename in (str(path), str(path.parent))


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
@pytest.mark.parametrize(("mask", "expected"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
@pytest.mark.usefixtures("umask")
def test_permissions_are_those_that_the_umask_leaves(
    tmp_path: Path, mask: int, expected: int
) -> None:
    os.umask(mask)
    write_atomic(tmp_path / "file", "new")
    assert permissions(tmp_path / "file") == expected
    assert os.umask(mask) == mask  # and the mask is as it was


def test_json_is_readable_and_ends_its_line(tmp_path: Path) -> None:
    write_json(tmp_path / "file", {"name": "caf\u00e9", "figures": [0.1, 2, math.inf]})
    text = (tmp_path / "file").read_text(encoding="utf-8")
    assert json.loads(text) == {"name": "caf\u00e9", "figures": [0.1, 2, None]}
    assert "caf\u00e9" in text
    assert text.endswith("}\n")


def test_what_is_no_json_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(TypeError):
        write_json(path, {"value": {1, 2}})
    assert path.read_text() == "old"


def read_back(path: Path) -> Rows:
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def check_round_trip(path: Path, rows: Rows) -> None:
    write_csv(path, rows)
    expected = [{name: str(value) for name, value in row.items()} for row in rows]
    assert read_back(path) == expected


def test_csv_rows_come_back(tmp_path: Path) -> None:
    check_round_trip(tmp_path / "t.csv", [{"a": 1, "b": "x"}, {"a": -2, "b": "caf\u00e9"}])


@pytest.mark.parametrize(
    "cell", ["a, b", 'say "a"', '"', 'a "b", c', "two\nlines", "'", " a ", "NaN", "", "#"]
)
def test_any_text_in_a_csv_comes_back(tmp_path: Path, cell: str) -> None:
    check_round_trip(tmp_path / "t.csv", [{"a": cell, "b": "1"}, {"a": "x", "b": cell}])


@pytest.mark.parametrize("name", ["a, b", 'say "a"', '"a"', "two\nlines", "caf\u00e9"])
def test_any_text_as_a_csv_column_comes_back(tmp_path: Path, name: str) -> None:
    check_round_trip(tmp_path / "t.csv", [{name: "1", "b": "2"}])


@given(value=st.floats(allow_nan=False))
def test_a_float_keeps_every_digit(tmp_path_factory: pytest.TempPathFactory, value: float) -> None:
    path = tmp_path_factory.getbasetemp() / "floats.csv"
    write_csv(path, [{"value": value}])
    assert float(read_back(path)[0]["value"]) == value


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.int64])
def test_numpys_numbers_are_written_as_numbers(tmp_path: Path, kind: type[np.number[Any]]) -> None:
    write_csv(tmp_path / "t.csv", [{"value": kind(3) / kind(2) if kind != np.int64 else kind(3)}])
    assert (tmp_path / "t.csv").read_text() in ("value\n1.5\n", "value\n3\n")


def test_columns_are_those_of_the_first_row(tmp_path: Path) -> None:
    write_csv(tmp_path / "t.csv", [{"b": 1, "a": 2}, {"a": 3, "b": 4}])
    assert (tmp_path / "t.csv").read_text() == "b,a\n1,2\n4,3\n"


def test_a_csv_quotes_either_end_of_a_line_and_nothing_more(tmp_path: Path) -> None:
    fields = ["a\rb", "a\nb", "a\r\nb", "\r", "a b", "\u2028", "\x85", 'a"b', "a,b"]
    write_csv(tmp_path / "t.csv", [{name: name for name in fields}])
    content = (tmp_path / "t.csv").read_bytes().decode()
    assert content.startswith('"a\rb","a\nb","a\r\nb","\r",a b,\u2028,\x85,"a""b","a,b"\n')
    with (tmp_path / "t.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [fields, fields]
    assert pd.read_csv(tmp_path / "t.csv").iloc[0].tolist() == fields


def test_a_csv_with_a_cell_missing_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("old")
    with pytest.raises(KeyError):
        write_csv(tmp_path / "t.csv", [{"a": 1}, {"b": 2}])
    assert (tmp_path / "t.csv").read_text() == "old"


def test_a_transposed_tensor_comes_back_bit_for_bit(tmp_path: Path) -> None:
    matrix = np.arange(12, dtype=np.float32).reshape(3, 4)
    views = {"t": matrix.T, "step": matrix[:, ::2], "back": matrix[::-1], "plain": matrix}
    assert not views["t"].flags.c_contiguous
    save_tensors(tmp_path / "t.safetensors", KIND, views, {})
    tensors, _ = load_tensors(tmp_path / "t.safetensors", KIND)
    assert set(tensors) == set(views)
    for name, view in views.items():
        assert tensors[name].dtype == view.dtype
        assert tensors[name].shape == view.shape
        assert np.array_equal(tensors[name], view)


def test_the_bytes_are_those_that_safetensors_writes() -> None:
    """Of all types, in its order; of no rows, of no axes; and of text that JSON escapes."""
    tensors: dict[str, Any] = {}
    for place, dtype in enumerate(DTYPES.values()):
        tensors[f"x{place}"] = np.arange(6).reshape(2, 3).astype(dtype)
        tensors[f"a{place}"] = np.zeros((0, 2), dtype)
        tensors[f"\u00e9.{place}"] = np.array(1, dtype)
    metadata = {"npnlp": '{"a": "\x01\x7f\n\\\u2028\u00e9"}'}
    parts = tensor_file_parts(tensors, metadata)
    assert b"".join(parts) == safetensors.numpy.save(tensors, metadata=metadata)


def test_parts_are_written_in_order_and_whole(tmp_path: Path) -> None:
    parts = [b"a" * 10, b"b" * 70_000, b"", b"c" * 40_000, b"d" * 40_000, b"e"]
    write_parts(tmp_path / "file", iter(parts))
    assert (tmp_path / "file").read_bytes() == b"".join(parts)

    def broken() -> Iterator[bytes]:
        yield b"x" * 100_000
        raise EOFError

    with pytest.raises(EOFError):
        write_parts(tmp_path / "file", broken())
    assert (tmp_path / "file").read_bytes() == b"".join(parts)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    "dtype", ["float64", "float32", "float16", "int64", "int32", "bool", ">f4"]
)
@pytest.mark.parametrize("shape", [(0,), (1,), (2, 3), (2, 0)])
def test_types_and_shapes_come_back(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    tensor = np.ones(shape, dtype=dtype)
    save_tensors(tmp_path / "t", KIND, {"x": tensor}, {})
    back = load_tensors(tmp_path / "t", KIND)[0]["x"]
    assert back.shape == shape
    assert back.dtype == tensor.dtype.newbyteorder("=")
    assert np.array_equal(back, tensor)


def test_a_tensor_without_axes_comes_back_without_axes(tmp_path: Path) -> None:
    save_tensors(tmp_path / "t", KIND, {"x": np.array(3.5)}, {})
    assert load_tensors(tmp_path / "t", KIND)[0]["x"].shape == ()


def test_special_floats_come_back_bit_for_bit(tmp_path: Path) -> None:
    tensor = np.array([np.nan, np.inf, -0.0, 1e-45], dtype=np.float32)
    save_tensors(tmp_path / "t", KIND, {"x": tensor}, {})
    assert load_tensors(tmp_path / "t", KIND)[0]["x"].tobytes() == tensor.tobytes()


def test_values_come_back(tmp_path: Path) -> None:
    values = {"a": {"b": [1, 2.5, None, True, "caf\u00e9"]}, "best": float("inf")}
    save_tensors(tmp_path / "t", KIND, {}, values)
    assert load_tensors(tmp_path / "t", KIND) == ({}, values | {"best": None})  # JSON has no inf


def saved(folder: Path, **metadata: object) -> Path:
    path = folder / "t.safetensors"
    described = json.dumps({"format": KIND, "format_version": FORMAT_VERSION} | metadata)
    path.write_bytes(safetensors.numpy.save({"x": np.ones(3)}, metadata={"npnlp": described}))
    return path


def check_refused(path: Path, *words: str) -> None:
    with pytest.raises(InputError) as caught:
        load_tensors(path, KIND)
    for word in (str(path), *words):
        assert word in str(caught.value)


def test_a_file_made_here_by_hand_loads(tmp_path: Path) -> None:
    assert set(load_tensors(saved(tmp_path, y="1"), KIND)[0]) == {"x"}


def test_another_kind_is_refused(tmp_path: Path) -> None:
    check_refused(saved(tmp_path, format="npnlp other"), "npnlp other", KIND)


def test_tensors_of_another_program_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "plain.safetensors"
    path.write_bytes(safetensors.numpy.save({"x": np.ones(3)}))
    check_refused(path, "unknown origin", KIND)


@pytest.mark.parametrize("version", [0, 2, "1", "", "one", None])
def test_another_version_is_refused(tmp_path: Path, version: object) -> None:
    check_refused(saved(tmp_path, format_version=version), "version", str(version))


def test_metadata_that_is_no_json_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    for text in ("{", "[" * 100_000, "3", "[]", "null"):
        path.write_bytes(safetensors.numpy.save({"x": np.ones(3)}, metadata={"npnlp": text}))
        check_refused(path, "metadata")


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        check_refused(path)


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"garbage" * 50, b"\xff" * 64, b"PK\3\4"])
def test_garbage_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "t"
    path.write_bytes(content)
    check_refused(path, "safetensors")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    check_refused(tmp_path / "t", "no such file")


def test_a_folder_is_not_called_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load_tensors(tmp_path, KIND)
    assert "no such file" not in str(caught.value)
