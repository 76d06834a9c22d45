"""``npnlp predict --input``: a file of any length in, a row a name out, in order or not at all."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npnlp.classifier.classifier import Classifier
from npnlp.cli import predict_file as module
from npnlp.errors import InputError
from npnlp.text import name_file
from npnlp.text.name_file import read_names
from tests.support.tables import (
    CLASSES,
    command,
    environment,
    finished_run,
    refusal,
    run_main,
    tree,
)
from tests.support.tables import npnlp as npnlp_command

Capture = pytest.CaptureFixture[str]
posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX")


@pytest.fixture
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_run(tmp_path_factory)


def some_names(count: int, seed: int = 0) -> list[str]:
    """Names of the model's letters, of which some occur again."""
    generator = np.random.default_rng(seed)
    letters = np.array(list("RVNamibelcordnetkofgs"))
    made = ["".join(generator.choice(letters, n)) for n in generator.integers(1, 10, count // 2)]
    return [made[n] for n in generator.integers(0, len(made), count)]


def put(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def predict(folder: Path, source: Path, target: Path, *more: str) -> int:
    return run_main("predict", "--save-dir", folder, "--input", source, "--output", target, *more)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_rows_are_in_order_and_say_what_the_library_says(finished: Path, tmp_path: Path) -> None:
    names = some_names(3_000)
    source = put(tmp_path / "names.txt", "\n".join(names) + "\n")
    done = npnlp_command(
        "predict", "--save-dir", finished, "--input", source, "--output", tmp_path / "out.csv",
        "--top-k", "2",
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, b"")
    rows = rows_of(tmp_path / "out.csv")
    assert [row["surname"] for row in rows] == names
    expected = Classifier.load(finished / "model.safetensors").predict(names, 2)
    for row, prediction in zip(rows, expected, strict=True):
        for end, (nationality, share) in zip(("", "_2"), prediction.top, strict=True):
            assert float(row[f"probability{end}"]) == pytest.approx(share, abs=2e-6)
            if abs(prediction.top[0][1] - prediction.top[1][1]) > 1e-5:
                assert row[f"nationality{end}"] == nationality
    assert set(tree(tmp_path)) == {"names.txt", "out.csv"}


@pytest.mark.parametrize("more", [(), ("--json",)], ids=["csv", "json"])
def test_answers_of_many_classes_are_made_a_few_names_at_a_time(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: Sequence[str]
) -> None:
    source = put(tmp_path / "names.txt", "\n".join(some_names(50)) + "\n")
    assert predict(finished, source, tmp_path / "whole", "--top-k", "3", *more) == 0
    monkeypatch.setattr(module, "MOST_ANSWERS", 20)
    assert predict(finished, source, tmp_path / "parts", "--top-k", "3", *more) == 0
    assert (tmp_path / "parts").read_bytes() == (tmp_path / "whole").read_bytes()


def test_json_lines_are_the_objects_of_the_contract(
    finished: Path, tmp_path: Path, capsys: Capture
) -> None:
    source = put(tmp_path / "names.txt", "Ramini\nVam\u00e4\nRamini\n")
    assert predict(finished, source, tmp_path / "out.jsonl", "--json", "--top-k", "2") == 0
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    capsys.readouterr()
    assert run_main("predict", "--save-dir", finished, "--json", "--top-k", "2",
                    "Ramini", "Vam\u00e4", "Ramini") == 0  # fmt: skip
    listed = json.loads(capsys.readouterr().out)
    for one, other in zip(found, listed, strict=True):
        assert one.keys() == other.keys()
        assert one["surname"] == other["surname"]
        assert one["top"][0]["nationality"] == other["top"][0]["nationality"]
        assert one["probability"] == pytest.approx(other["probability"], abs=1e-6)


@pytest.mark.parametrize("top_k", ["1", "3", "99"])
def test_as_many_columns_as_choices(finished: Path, tmp_path: Path, top_k: str) -> None:
    source = put(tmp_path / "names.txt", "Ramini\n")
    assert predict(finished, source, tmp_path / "out.csv", "--top-k", top_k) == 0
    (row,) = rows_of(tmp_path / "out.csv")
    ends = ["", "_2", "_3"][: int(top_k)]
    assert list(row) == [
        "surname",
        *(f"{n}{e}" for e in ends for n in ("nationality", "probability")),
    ]
    assert {row[f"nationality{end}"] for end in ends} <= set(CLASSES)


@pytest.mark.parametrize(
    "content",
    [b"Ramini\nVamov", b"Ramini\r\nVamov\r\n", b"\xef\xbb\xbfRamini\nVamov\n", b"Ramini\rVamov\r",
     b"surname\nRamini\nVamov\n", b"\xef\xbb\xbfid,surname\r\n1,Ramini\r\n\r\n2,Vamov\r\n",
     b'surname , id\n"Ramini",1\nVamov,"a ""b"",\nc"\n'],
    ids=["no last line end", "CRLF", "BOM", "CR", "CSV", "CSV, BOM, CRLF", "CSV, quotes"],
)  # fmt: skip
def test_lines_and_columns_are_read(finished: Path, tmp_path: Path, content: bytes) -> None:
    source = put(tmp_path / "names", content)
    assert predict(finished, source, tmp_path / "out.csv") == 0
    assert [row["surname"] for row in rows_of(tmp_path / "out.csv")] == ["Ramini", "Vamov"]


def test_quotes_and_commas_come_back_as_they_were(finished: Path, tmp_path: Path) -> None:
    names = ['O"Ram', "Ram, Jr", "Vam\nov", "Ramini", '"', "  Vamov "]
    content = io.StringIO(newline="")
    csv.writer(content).writerows([["surname"], *([name] for name in names)])
    source = put(tmp_path / "names.csv", content.getvalue())
    assert predict(finished, source, tmp_path / "out.csv") == 0
    assert [row["surname"] for row in rows_of(tmp_path / "out.csv")] == names


BAD: dict[str, tuple[str, bytes, tuple[str, ...]]] = {
    "an empty line": ("n.txt", b"Ramini\n\nVamov\n", ("row 2", "empty")),
    "a blank line": ("n.txt", "Ramini\n\u00a0\t\nR\n".encode(), ("row 2", "--on-empty")),
    "Latin-1": ("n.txt", b"Ramini\nLef\xe8vre\n", ("row 2", "UTF-8")),
    "UTF-16 without a mark": ("n.txt", "Ramini\n".encode("utf-16-le"), ("row 1", "text")),
    "an empty field": ("n.csv", b"id,surname\n1,Ramini\n2, \n", ("row 3", "column surname")),
    "no such column": ("n.csv", b"id,nom\n1,Ramini\n", ("row 1", "'surname'", "id, nom")),
    "the column twice": ("n.csv", b"surname,surname\na,b\n", ("row 1", "twice")),
    "an empty CSV": ("n.csv", b"", ("empty",)),
    "too many fields": ("n.csv", b"surname\nRamini\nRam,ini\n", ("row 3", "2 fields", "1 col")),
    "an open quote": ("n.csv", b'surname\nRamini\n"Vamov\n', ("row 3", "not valid CSV")),
    "an open quote at once": ("n.csv", b'surname,x\n"Vamov\n', ("row 2", "not valid CSV")),
    "an open quote, later": ("n.csv", b'surname,x\n"a\nb",1\n"Vamov\n', ("row 4", "valid CSV")),
    "Latin-1 in a CSV": ("n.csv", b"surname\nRamini\nLef\xe8vre\n", ("row 3", "UTF-8")),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_rows_are_named_and_nothing_is_written(
    finished: Path, tmp_path: Path, name: str, capsys: Capture
) -> None:
    file, content, words = BAD[name]
    source = put(tmp_path / file, content)
    target = put(tmp_path / "out.csv", "what was there")
    before = tree(tmp_path)
    assert predict(finished, source, target) == 2
    refusal(capsys.readouterr().err, "npnlp predict:", str(source), *words)
    assert tree(tmp_path) == before


def test_a_file_that_is_not_there_is_named(finished: Path, tmp_path: Path, capsys: Capture) -> None:
    assert predict(finished, tmp_path / "none.txt", tmp_path / "out.csv") == 2
    refusal(capsys.readouterr().err, "npnlp predict:", "none.txt")
    assert tree(tmp_path) == {}


@pytest.mark.parametrize("target", ["none/out.csv", "folder"])
def test_where_nothing_can_be_written_is_named(
    finished: Path, tmp_path: Path, target: str, capsys: Capture
) -> None:
    (tmp_path / "folder").mkdir()
    source = put(tmp_path / "names.txt", "Ramini\n")
    assert predict(finished, source, tmp_path / target) == 2
    refusal(capsys.readouterr().err, "npnlp predict:", str(tmp_path / target))
    assert set(tree(tmp_path)) == {"names.txt"}


def test_no_names_are_a_header_alone(finished: Path, tmp_path: Path) -> None:
    source = put(tmp_path / "names.txt", "")
    assert predict(finished, source, tmp_path / "out.csv") == 0
    assert (tmp_path / "out.csv").read_text() == "surname,nationality,probability\n"


def test_standard_input_to_standard_output(finished: Path) -> None:
    done = npnlp_command("predict", "--save-dir", finished, "-i", "-", stdin=b"Ramini\nVamov\n")
    assert (done.returncode, done.stderr) == (0, b"")
    lines = done.stdout.decode().splitlines()
    assert [line.split(",")[0] for line in lines] == ["surname", "Ramini", "Vamov"]
    done = npnlp_command("predict", "--save-dir", finished, "-i", "-", stdin=b"Ramini\n\nR\n")
    assert done.returncode == 2
    refusal(done.stderr.decode(), "standard input", "row 2")


def test_names_that_are_arguments_go_to_a_file_too(finished: Path, tmp_path: Path) -> None:
    assert run_main("predict", "--save-dir", finished, "Vamov", "Ramini", "--output",
                    tmp_path / "out.csv") == 0  # fmt: skip
    assert [row["surname"] for row in rows_of(tmp_path / "out.csv")] == ["Vamov", "Ramini"]


@pytest.mark.parametrize(
    "arguments", [(), ("Ramini", "--input", "names.txt")], ids=["none", "both"]
)
def test_names_or_a_file_of_them(arguments: tuple[str, ...], capsys: Capture) -> None:
    assert run_main("predict", *arguments) == 2
    refusal(capsys.readouterr().err, "--input", "--help")


@posix
def test_what_is_no_ordinary_file_is_written_to(finished: Path, tmp_path: Path) -> None:
    source = put(tmp_path / "names.txt", "Ramini\n")
    assert predict(finished, source, Path(os.devnull)) == 0
    assert not Path(os.devnull).is_file()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_is_named(finished: Path, tmp_path: Path, capsys: Capture) -> None:
    source = put(tmp_path / "names.txt", "Ramini\n")
    assert predict(finished, source, Path("/dev/full")) == 2
    refusal(capsys.readouterr().err, "npnlp predict: /dev/full: No space left")


def test_unknown_characters_have_one_line(finished: Path, tmp_path: Path, capsys: Capture) -> None:
    names = ["Ramini", "\u5c71\u672c", "Re\u0301m", *["\u5c71"] * 1_000]
    source = put(tmp_path / "names.txt", "\n".join(names))
    assert predict(finished, source, tmp_path / "out.csv") == 0
    refusal(capsys.readouterr().err, "note:", "\u5c71 \u672c", "1,002 names", "row 2")


def test_notes_on_arguments_are_few(finished: Path, capsys: Capture) -> None:
    assert run_main("predict", "--save-dir", finished, *["\u5c71"] * 500) == 0
    notes = capsys.readouterr().err.splitlines()
    assert len(notes) == 11
    assert "490 other names" in notes[-1]


def test_a_reader_that_leaves_is_no_error(finished: Path, tmp_path: Path) -> None:
    source = put(tmp_path / "names.txt", "Ramini\n" * 100_000)
    process = subprocess.Popen(
        command("predict", "--save-dir", finished, "--input", source), env=environment(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == b"surname,nationality,probability\n"
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(timeout=900) == 0


#: The command, and then the most memory it had, in KB.
WITH_MEMORY = """
import pathlib, re, sys
from npnlp.cli import main
assert main(sys.argv[1:]) == 0
print(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_memory_does_not_grow_with_the_file(finished: Path, tmp_path: Path) -> None:
    names = "\n".join(some_names(50_000)) + "\n"
    most = []
    for times in (24, 24, 96):  # 7 and 29 MB: parts of 2.5; an allocator's mood is some percent
        source = put(tmp_path / "names.txt", names * times)
        arguments = ["predict", "--save-dir", str(finished), "--input", str(source)]
        done = subprocess.run(
            [sys.executable, "-c", WITH_MEMORY, *arguments, "--output", str(tmp_path / "out.csv")],
            env=environment(), capture_output=True, text=True, check=True, timeout=900,
        )  # fmt: skip
        assert source.stat().st_size > 2.5 * name_file.PART
        assert (tmp_path / "out.csv").read_bytes().count(b"\n") == 50_000 * times + 1
        most.append(int(done.stdout))
    assert most[2] < 1.1 * max(most[:2])
    assert most[2] < 300_000


@posix
def test_a_bar_is_shown_on_a_terminal_and_nowhere_else(finished: Path, tmp_path: Path) -> None:
    import pty  # these two are not on Windows
    import termios

    source = put(tmp_path / "names.txt", "Ramini\nVamov\n")
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    done = subprocess.run(
        command("predict", "--save-dir", finished, "-i", source, "-o", tmp_path / "out.csv"),
        env=environment(), stdout=subprocess.PIPE, stderr=theirs, check=False, timeout=900,
    )  # fmt: skip
    os.close(theirs)
    shown = os.read(ours, 10_000).decode()
    os.close(ours)
    assert (done.returncode, done.stdout) == (0, b"")
    assert re.search(r"predicted.*100%", shown)


COLD = """
import sys
from npnlp.cli import main
assert main(sys.argv[1:]) == 0
heavy = {"pandas", "matplotlib", "tqdm", "torch", "numba", "scipy", "npnlp.training.trainer",
         "npnlp.gradients"}
print(sorted(heavy & set(sys.modules)))
"""


def test_a_prediction_imports_neither_pandas_nor_a_trainer(finished: Path, tmp_path: Path) -> None:
    source = put(tmp_path / "names.txt", "Ramini\n")
    for names in (["Ramini"], ["--input", str(source), "--output", str(tmp_path / "out.csv")]):
        done = subprocess.run(
            [sys.executable, "-c", COLD, "predict", "--save-dir", str(finished), *names],
            env=environment(), capture_output=True, text=True, check=True, timeout=900,
        )  # fmt: skip
        assert done.stdout.splitlines()[-1] == "[]"


def all_names(content: bytes, source: str = "n") -> tuple[list[str], list[int], int]:
    parts = list(read_names(io.BytesIO(content), source).parts)
    return (
        [name for part in parts for name in part.names],
        [row for part in parts for row in part.rows],
        sum(part.size for part in parts),
    )


CONTENTS = {
    "lines": b"Ramini\nVamov\nR\nNamoto\nRe\xcc\x81m\n",
    "CRLF": b"\xef\xbb\xbfRamini\r\nVamov\r\nR\r\nNamoto",
    "CR": b"Ramini\rVamov\rR\rNamoto\rVa\r",
    "CSV": b'id,surname\n1,Ramini\n"2\n3",Vamov\n\n4,"R ""x"", y"\n5,Namoto\n',
}


@pytest.mark.parametrize("part", [24, 25, 26, 27, 40])
@pytest.mark.parametrize("kind", CONTENTS)
def test_parts_may_end_anywhere(monkeypatch: pytest.MonkeyPatch, kind: str, part: int) -> None:
    whole = all_names(CONTENTS[kind])
    monkeypatch.setattr(name_file, "PART", part)
    assert all_names(CONTENTS[kind]) == whole
    assert len(whole[0]) >= 4
    assert whole[2] == len(CONTENTS[kind].removeprefix(b"\xef\xbb\xbf"))


def test_lines_end_where_files_say_so_and_nowhere_else() -> None:
    content = "R\u2028a\nVa\u0085mov\x0cR\r\nRe\x1cR\n".encode()
    names, rows, _ = all_names(content)
    assert names == ["R\u2028a", "Va\u0085mov\x0cR", "Re\x1cR"]
    assert rows == [1, 2, 3]


def test_rows_of_a_csv_are_lines_of_the_file() -> None:
    names, rows, _ = all_names(CONTENTS["CSV"])
    assert names == ["Ramini", "Vamov", 'R "x", y', "Namoto"]
    assert rows == [2, 4, 6, 7]


@pytest.mark.parametrize(
    ("content", "row"),
    [(b"Ra\n" + b"m" * 2**23, 2), (b"Ra\n" + b"m" * 70_000, 2),
     (b"R\nRa\n" + b"m" * 70_000 + b"\nRa\n", 3), (b"surname\n" + b"m" * 70_000 + b"\n", 2)],
    ids=["no lines", "the last line", "a line", "a field"],
)  # fmt: skip
def test_what_is_too_long_for_a_name_is_refused(content: bytes, row: int) -> None:
    with pytest.raises(InputError, match=f"n: row {row}: over 65,536 characters"):
        all_names(content)


def test_a_bad_row_far_down_has_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(name_file, "PART", 10)
    for content, words in ((b"R\n" * 77 + b"\xff\n", "row 78"), (b"R\n" * 77 + b"\nR\n", "row 78")):
        with pytest.raises(InputError, match=words):
            all_names(content)


def test_the_classes_of_any_names_are_those_of_the_model(finished: Path, tmp_path: Path) -> None:
    names: list[Any] = some_names(500, seed=3)
    source = put(tmp_path / "names.txt", "\n".join(names))
    assert predict(finished, source, tmp_path / "out.csv") == 0
    assert {row["nationality"] for row in rows_of(tmp_path / "out.csv")} <= set(CLASSES)
