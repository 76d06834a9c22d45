"""Tables as people have them: other delimiters, encodings, packings and names of columns."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from random import Random
from threading import Timer
from typing import Any

import pandas as pd
import pytest

from npnlp.errors import InputError
from npnlp.text import read_table
from npnlp.text.columns import Columns
from npnlp.text.name_file import ON_EMPTY, read_names
from tests.support.tables import (
    CLASSES,
    ROOT,
    SMALL,
    command,
    environment,
    finished_run,
    npnlp,
    read_json,
    refusal,
    run_main,
    small_rows,
    write_table,
)

Capture = pytest.CaptureFixture[str]
ROWS = [("Italian", "train", "D'Am, jr; x"), ("Irish", "val", 'O"Neill'), ("Irish", "test", "Li\t"),
        ("German", "test", "M\u00fcller"), ("Irish", "train", "NA")]  # fmt: skip


@pytest.fixture
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_run(tmp_path_factory)


def rows_of(path: Path, columns: Columns | None = None) -> list[tuple[str, ...]]:
    frame = read_table(path, columns or Columns())
    return list(zip(frame["nationality"], frame["split"], frame["surname"], strict=True))


# --- a generator of shapes

DELIMITERS = [",", ";", "\t"]
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "gzip", "gzip utf-16"]
HEADERS = [
    ("nationality", "split", "surname"), ("Nationality", "SPLIT", "Last Name"),
    ("Label", "Split", "Name"), ("COUNTRY", "split", "family_name"),
]  # fmt: skip
LINE_ENDS = ["\n", "\r\n"]
SHAPES = [
    each
    for n, each in enumerate(itertools.product(DELIMITERS, ENCODINGS, HEADERS, LINE_ENDS))
    if n % 3 == 0
]


def made(
    rows: list[tuple[str, str, str]], header: tuple[str, ...], delimiter: str, end: str, number: int
) -> str:
    """A table with a line ``sep=``, other columns, all quotes and blank rows in one of several."""
    text = io.StringIO(newline="")
    writer = csv.writer(
        text,
        delimiter=delimiter,
        lineterminator=end,
        quoting=csv.QUOTE_ALL if number % 2 else csv.QUOTE_MINIMAL,
    )
    if number % 5 == 0:
        text.write(f"sep={delimiter}{end}")
    order = list(itertools.permutations(range(3)))[number % 6]
    extra = number % 3
    writer.writerow([*[header[n] for n in order], *["note", "id"][:extra]])
    for row in rows:
        writer.writerow([*[row[n] for n in order], *["x, y", ""][:extra]])
    if number % 4 == 0:
        text.write(delimiter * (2 + extra) + end + end)  # as a spreadsheet writes empty rows
    return text.getvalue()


def packed(text: str, encoding: str) -> bytes:
    content = text.encode(encoding.rpartition(" ")[2].replace("gzip", "utf-8"))
    return gzip.compress(content) if encoding.startswith("gzip") else content


def name_of(delimiter: str, encoding: str) -> str:
    return ("t.tsv" if delimiter == "\t" else "t.csv") + (".gz" if "gzip" in encoding else "")


def test_tables_of_many_shapes_are_one_table(tmp_path: Path) -> None:
    assert len(SHAPES) == 40
    expected = [(label, split, name.strip()) for label, split, name in ROWS]
    for number, (delimiter, encoding, header, end) in enumerate(SHAPES):
        text = made(ROWS, header, delimiter, end, number)
        path = tmp_path / name_of(delimiter, encoding)
        path.write_bytes(packed(text, encoding))
        assert rows_of(path) == expected, (number, delimiter, encoding, header)
        with path.open("rb") as file:
            parts = list(read_names(file, str(path)).parts)
        names = [name for part in parts for name in part.names]
        assert names == [name for _, _, name in ROWS], (number, delimiter, encoding, header)
        assert sum(len(part.records or ()) for part in parts) == len(ROWS)


@pytest.mark.parametrize(
    ("header", "words"),
    [("Label,Country,Surname", ("'Label', 'Country'", "--label-column")),
     ("nationality,Last Name,Family Name", ("'Last Name', 'Family Name'", "--column")),
     ("nationality,SURNAME,Surname", ("'SURNAME'", "twice")),
     ("surname|nationality", ("'nationality'", "--delimiter")),
     ("land,surname", ("'nationality'", "land, surname", "--label-column"))],
)  # fmt: skip
def test_what_may_mean_two_columns_is_refused(
    tmp_path: Path, header: str, words: tuple[str, ...]
) -> None:
    path = tmp_path / "t.csv"
    path.write_text(header + "\nItalian,Rossi,Verdi\n"[: 100 if header.count(",") == 2 else 15])
    with pytest.raises(InputError) as caught:
        read_table(path)
    for word in (str(path), "row 1", *words):
        assert word in str(caught.value)


def test_the_first_of_several_meanings_counts(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("Name,Surname,Country,Nationality,split\nJohn,Rossi,UK,Italian,Dev\n")
    assert rows_of(path) == [("Italian", "val", "Rossi")]


def test_columns_and_the_delimiter_may_be_named(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_text("who|What|part\nRossi|m|Training\nVerdi|f|VALID\n")
    columns = Columns("who", "what", "part", "|")
    assert rows_of(path, columns) == [("m", "train", "Rossi"), ("f", "val", "Verdi")]
    assert read_table(path, columns).attrs["label"] == "What"
    with pytest.raises(InputError, match="row 1: column 'nom' is missing; found: who, What, part"):
        read_table(path, Columns("nom", "What", "part", "|"))
    with pytest.raises(InputError, match="--label-column"):
        read_table(path, Columns("who", "who", "part", "|"))
    with pytest.raises(InputError, match="delimiter"):
        Columns(delimiter="::")


def test_an_error_names_the_column_as_the_file_does(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"Country;Last Name\nItaly;Rossi\n;Verdi\n")
    with pytest.raises(InputError, match="row 3, column Country: empty"):
        read_table(path)
    path.write_bytes(b"sep=;\nCountry;Last Name\nItaly;Rossi;\n")
    with pytest.raises(InputError, match=r"row 3: 3 fields .* a semicolon"):
        read_table(path)
    path.write_bytes(b"Country;Last Name\nItaly;Ros\xe8\n")
    with pytest.raises(InputError, match="row 2, column Last Name: byte 0xe8 is not UTF-8"):
        read_table(path)


def test_parquet_is_read_as_a_table(finished: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="Parquet is read with pyarrow")
    path = tmp_path / "t.parquet"
    rows = [(label, split, name, n) for n, (label, split, name) in enumerate(ROWS)]
    pd.DataFrame(rows, columns=["Label", "split", "Name", "id"]).to_parquet(path)
    assert rows_of(path) == [(label, split, name.strip()) for label, split, name in ROWS]
    target = tmp_path / "out.csv"
    assert run_main("predict", "--save-dir", finished, "-i", path, "-o", target) == 0
    with target.open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    assert [(row["Name"], row["id"]) for row in found] == [(row[2], str(row[3])) for row in rows]
    assert all(row["nationality"] in CLASSES for row in found)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match="Parquet"):
        read_table(path)


def test_parquet_without_its_reader_says_what_to_install(tmp_path: Path) -> None:
    """In a process whose pyarrow does not work, which pandas does without."""
    (tmp_path / "pyarrow.py").write_text("raise ImportError('broken')")
    (tmp_path / "t.parquet").write_bytes(b"PAR1 and so on")
    done = npnlp("train", "--surname-csv", tmp_path / "t.parquet", "--save-dir", tmp_path / "run",
                 PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")  # fmt: skip
    assert (done.returncode, done.stdout) == (2, b"")
    refusal(done.stderr.decode(), "t.parquet", "pyarrow (broken)", "CSV")


def test_texts_are_not_kept_in_arrow(tmp_path: Path) -> None:
    """Where pyarrow is installed pandas would put them there, and walking through them is slow."""
    frame = read_table(write_table(tmp_path / "t.csv"))
    assert {str(frame[name].dtype) for name in ("surname", "nationality", "split")} == {"object"}


# --- prediction keeps what is there

TABLE = 'id;Surname;note\r\n1;Ramini;"a;b"\r\n2;Vamov;""\r\n3;Ramini;"c\r\nd"\r\n'


def test_prediction_keeps_all_columns_and_comes_behind_them(finished: Path, tmp_path: Path) -> None:
    source = tmp_path / "names.csv"
    source.write_bytes(TABLE.encode("utf-16"))
    done = npnlp("predict", "--save-dir", finished, "-i", source)
    assert (done.returncode, done.stderr) == (0, b"")
    reader = csv.reader(io.StringIO(done.stdout.decode(), newline=""), delimiter=";", strict=True)
    header, *rows = reader
    assert header == ["id", "Surname", "note", "nationality", "probability"]
    assert [row[:3] for row in rows] == [["1", "Ramini", "a;b"], ["2", "Vamov", ""],
                                         ["3", "Ramini", "c\r\nd"]]  # fmt: skip
    assert all(row[3] in CLASSES and 0 < float(row[4]) <= 1 for row in rows)
    target = tmp_path / "out.jsonl"
    assert run_main("predict", "--save-dir", finished, "-i", source, "-o", target, "--json") == 0
    found = [json.loads(line) for line in target.read_text().splitlines()]
    assert [each["nationality"] for each in found] == [row[3] for row in rows]
    assert found[2]["surname"] == "Ramini"
    assert found[2]["columns"] == {"id": "3", "Surname": "Ramini", "note": "c\r\nd"}


def test_a_column_of_the_same_name_is_kept_too(finished: Path, tmp_path: Path) -> None:
    source = write_table(tmp_path / "t.csv")
    target = tmp_path / "out.csv"
    assert run_main("predict", "--save-dir", finished, "-i", source, "-o", target) == 0
    frame = pd.read_csv(target)
    assert list(frame) == ["nationality", "split", "surname", "predicted_nationality",
                           "predicted_probability"]  # fmt: skip
    assert list(frame["surname"]) == [name for _, _, name in small_rows()]


def test_a_line_that_names_the_delimiter_stays(finished: Path, tmp_path: Path) -> None:
    source, target = tmp_path / "t.csv", tmp_path / "out.csv"
    source.write_text("sep=;\nwho;surname\n1;Ramini\n")
    arguments = ("predict", "--save-dir", finished, "-i", source, "-o", target, "--column", "WHO")
    assert run_main(*arguments) == 0
    assert target.read_text().startswith("sep=;\nwho;surname;nationality;probability\n1;Ramini;")


def test_a_column_needs_a_table(finished: Path, capsys: Capture) -> None:
    assert run_main("predict", "--save-dir", finished, "Ramini", "--column", "x") == 2
    refusal(capsys.readouterr().err, "--input")


# --- lines are lines, and what is empty is chosen

BLANKS: dict[str, tuple[str, Callable[[str], str]]] = {
    "lines": ("n.txt", lambda text: text),
    "CR": ("n.txt", lambda text: text.replace("\n", "\r")),
    "table": ("n.csv", lambda text: "id,surname\n" + "".join(
        f"7,{line}" for line in text.splitlines(keepends=True))),
    "quotes": ("n.csv", lambda text: 'surname,"i\nd"\n' + "".join(
        f'"{line}",7\n' for line in text.split("\n")[:-1])),
}  # fmt: skip


@pytest.mark.parametrize("kind", BLANKS)
def test_blank_names_are_an_error_or_skipped_or_blank(
    finished: Path, tmp_path: Path, kind: str, capsys: Capture
) -> None:
    name, shape = BLANKS[kind]
    source, target = tmp_path / name, tmp_path / "out.csv"
    source.write_bytes(shape("Ramini\n \nVamov\n\u00a0\nRamini\n").encode())
    predict = ("predict", "--save-dir", finished, "-i", source, "-o", target)
    assert run_main(*predict) == 2
    row = 4 if kind == "quotes" else 3 if kind == "table" else 2
    refusal(capsys.readouterr().err, str(source), f"row {row}", "--on-empty skip")
    answers: dict[str, Any] = {}
    for choice in ON_EMPTY[1:]:
        assert run_main(*predict, "--on-empty", choice) == 0
        with target.open(encoding="utf-8", newline="") as file:
            answers[choice] = [(r["surname"], r["nationality"]) for r in csv.DictReader(file)]
    assert [n for n, _ in answers["skip"]] == ["Ramini", "Vamov", "Ramini"]
    assert [n for n, _ in answers["blank"]] == ["Ramini", " ", "Vamov", "\u00a0", "Ramini"]
    assert [a for n, a in answers["blank"] if not n.strip()] == ["", ""]
    assert [each for each in answers["blank"] if each[0].strip()] == answers["skip"]
    assert capsys.readouterr().err == ""


def test_blank_lines_at_the_end_are_none() -> None:
    contents = [
        b"Ra\nVa\n\n \n\n",
        b"Ra\r\nVa\r\n\r\n",
        b"surname\nRa\nVa\n\n\n",
        b"id;surname\n1;Ra\n2;Va\n;\n ; \n\n",
        b'surname,x\n"Ra",1\nVa,2\n"",\n',
    ]
    for content in contents:
        parts = list(read_names(io.BytesIO(content), "n").parts)
        assert [name for part in parts for name in part.names] == ["Ra", "Va"], content
    with pytest.raises(InputError, match="row 3, column surname: empty"):
        list(read_names(io.BytesIO(b"id,surname\n1,Ra\n2,\n"), "n").parts)


def test_blank_arguments_and_json(finished: Path, capsys: Capture) -> None:
    predict = ("predict", "--save-dir", finished, "--json", "Ramini", " ")
    assert run_main(*predict) == 2
    refusal(capsys.readouterr().err, "name 2 is empty", "--on-empty")
    assert run_main(*predict, "--on-empty", "blank") == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["nationality"] is None for each in found] == [False, True]
    assert run_main(*predict, "--on-empty", "skip") == 0
    assert len(json.loads(capsys.readouterr().out)) == 1


def test_the_command_reads_lines_as_lines(finished: Path) -> None:
    """Two names are two rows, whatever separators of other kinds stand in them."""
    names = ["Ra\u2028mini", "Va\x0cm\u0085ov"]
    done = npnlp(
        "predict", "--save-dir", finished, "-i", "-", "--json",
        stdin="\r".join([*names, "", ""]).encode(),
    )  # fmt: skip
    assert done.returncode == 0
    assert [json.loads(line)["surname"] for line in done.stdout.decode().split("\n")[:-1]] == names


@pytest.mark.parametrize("table", [False, True], ids=["lines", "table"])
def test_a_pipe_is_answered_line_by_line(finished: Path, table: bool) -> None:
    process = subprocess.Popen(
        command("predict", "--save-dir", finished, "-i", "-"), env=environment(),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    watchdog = Timer(60, process.kill)  # without an answer there would be no end
    watchdog.start()
    assert process.stdin is not None
    assert process.stdout is not None
    if table:
        os.write(process.stdin.fileno(), b"surname\n")
    for n in range(2):
        os.write(process.stdin.fileno(), b"Ramini\n")
        if not n:
            assert process.stdout.readline() == b"surname,nationality,probability\n"
        assert process.stdout.readline().startswith(b"Ramini,")
    process.stdin.close()
    assert process.stdout.read() == b""
    process.stdout.close()
    assert process.wait(timeout=900) == 0
    watchdog.cancel()


def test_training_takes_such_a_table(tmp_path: Path) -> None:
    rows = [(label, split.upper(), name) for label, split, name in small_rows()]
    path = tmp_path / "people.tsv.gz"
    path.write_bytes(packed(made(rows, ("group", "part", "who"), "\t", "\r\n", 4), "gzip utf-16"))
    named = ("--column", "who", "--label-column", "group", "--split-column", "part")
    data = ("--surname-csv", path, *named, "--save-dir", tmp_path / "run")
    assert run_main("train", *data, "--num-epochs", "1", "--quiet", *SMALL) == 0
    assert read_json(tmp_path / "run" / "metrics.json")["data"]["rows"] == 60
    assert run_main("evaluate", *data, "--json") == 0
    assert run_main("gradient-flow", *data) == 0


def test_damaged_files_are_refused_in_a_line_and_never_more(tmp_path: Path) -> None:
    """Bytes changed, cut and put in at random, in every packing: read, or refused by name."""
    random, path = Random(0), tmp_path / "f"
    marks = [b'"', b";", b"\n", b"\r", b"\0", b"\xff\xfe", b"\x1f\x8b", b"\t", b"sep=;\n"]
    texts = [made(ROWS, HEADERS[n], delimiter, "\r\n", n) for n, delimiter in enumerate(DELIMITERS)]
    contents = [packed(text, encoding) for text in texts for encoding in ENCODINGS]
    refusals: list[str] = []
    for content in contents * 20:
        damaged = bytearray(content)
        for _ in range(random.randint(0, 1)):
            place = random.randrange(len(damaged))
            end = place + random.randint(0, 5)
            damaged[place:end] = random.choice([b"", bytes([random.randrange(256)]), *marks])
        path.write_bytes(damaged[: random.choice([None, None, len(content) // 2])])
        for read in (
            lambda: read_table(path),
            lambda: list(read_names(io.BytesIO(path.read_bytes()), str(path)).parts),
        ):
            try:
                read()
            except InputError as error:
                refusals.append(str(error))
    assert 100 < len(refusals) < 500
    assert all(text.startswith(f"{path}: ") and "\n" not in text for text in refusals)
