"""A run survives what surrounds it: a notebook's settings, a folder, a terminal, a pipe."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from npnlp.cli.commands import COMMANDS
from tests.support.tables import (
    FILES,
    SMALL,
    command,
    environment,
    finished_run,
    npnlp,
    read_json,
    refusal,
    run_main,
    small_rows,
    train_small,
    tree,
    write_table,
)

CJK = ("한국어", "中文", "日本")
ODD = ("Ita\rlian", "Rus\nsian", 'Japa\t"nese')
#: What a user may have set; and what cannot be set at all.
SETTINGS = "text.usetex: True\nfont.family: No Such Font\nfont.size: abc\nsavefig.dpi: 3\n"
NOT_TEXT = b"font.family: \xff\xfe\n"


@pytest.fixture
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_run(tmp_path_factory)


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """The model and the table of a run, with nothing beside them."""
    (tmp_path / "run").mkdir()
    shutil.copy(finished / "model.safetensors", tmp_path / "run")
    write_table(tmp_path / "small.csv")
    return tmp_path


@pytest.fixture
def gone() -> Iterator[int]:
    """A pipe that nobody reads any more."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


def test_a_run_survives_its_surroundings(tmp_path: Path) -> None:
    """A notebook's backend, a user's settings, no home, 40 columns, and output in cp1252."""
    write_table(tmp_path / "small.csv", small_rows(CJK))
    (tmp_path / "matplotlibrc").write_text(SETTINGS, encoding="utf-8")
    done = npnlp(
        "train", "--surname-csv", "small.csv", "--save-dir", "run", "--num-epochs", "2", *SMALL,
        cwd=tmp_path, MPLBACKEND="module://matplotlib_inline.backend_inline", HOME="/dev/null",
        MPLCONFIGDIR="/dev/null", COLUMNS="40", PYTHONIOENCODING="cp1252",
    )  # fmt: skip
    assert done.returncode == 0
    letters = "note: no font here has 7 of the characters in run/confusion_matrix.png ("
    if done.stderr:  # a font of this machine may have them
        refusal(done.stderr.decode("cp1252"), letters, "frames stand for them")
    files = tree(tmp_path / "run")
    assert set(files) == FILES
    for name in ("learning_curves.png", "gradient_norms.png", "gradient_flow.png"):
        width, height = (int.from_bytes(files[name][at : at + 4], "big") for at in (16, 20))
        assert (width, height) == (1440, 930 if "flow" in name else 810)
    assert not [name for name in files if name.endswith(("csv", "json", "md"))
                and b"\\u" in files[name]]  # fmt: skip
    assert set(CJK) <= set(files["confusion_matrix.csv"].decode().replace("\n", ",").split(","))


def test_who_plots_in_the_same_process_keeps_the_backend() -> None:
    """The environment names it, and Matplotlib looks there at its first import."""
    asks = "import os, npnlp.plots as p, matplotlib as m; print(m.get_backend(), os.environ[%r])"
    done = subprocess.run(
        [command()[0], "-c", asks % "MPLBACKEND"], env=environment(MPLBACKEND="svg"),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("svg svg\n", "")


def test_where_matplotlib_cannot_be_imported_all_else_is_written(copied: Path) -> None:
    (copied / "matplotlibrc").write_bytes(NOT_TEXT)
    done = npnlp("gradient-flow", "--save-dir", "run", "--surname-csv", "small.csv", cwd=copied)
    assert done.returncode == 0
    refusal(done.stderr.decode(), "npnlp gradient-flow: no picture is drawn: matplotlib ",
            "UnicodeDecodeError", "matplotlibrc")  # fmt: skip
    assert set(tree(copied / "run")) == {
        "model.safetensors", "gradient_flow_model.csv", "flow_by_part_model.csv",
    }  # fmt: skip


def test_labels_with_line_ends_keep_every_letter(tmp_path: Path) -> None:
    with (tmp_path / "small.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, quoting=csv.QUOTE_ALL)
        rows.writerows([("nationality", "split", "surname"), *small_rows(ODD)])
    assert train_small(tmp_path / "run") == 0
    with (tmp_path / "run" / "confusion_matrix.csv").open(encoding="utf-8", newline="") as file:
        header, *counts = csv.reader(file)
    assert set(header[1:]) == {row[0] for row in counts} == set(ODD)
    assert np.array([row[1:] for row in counts], dtype=int).sum() == 9
    assert set(tree(tmp_path / "run")) == FILES
    written = read_json(tmp_path / "run" / "vectorizer.json")
    assert set(ODD) <= set(written["nationality_vocab"]["token_to_idx"])


def test_predictions_are_utf_8_whatever_the_terminal(copied: Path) -> None:
    (copied / "names.txt").write_text("Łukaší\n한국\nRamini\n", encoding="utf-8")
    given = ("predict", "--save-dir", "run", "-i", "names.txt")
    done = npnlp(*given, cwd=copied, PYTHONIOENCODING="cp1252")
    assert done.returncode == 0
    refusal(done.stderr.decode("cp1252"), "never seen")
    assert run_main("predict", "--save-dir", copied / "run", "-i", copied / "names.txt",
                    "-o", copied / "out.csv") == 0  # fmt: skip
    assert done.stdout.replace(b"\r\n", b"\n") == (copied / "out.csv").read_bytes()
    assert "\n한국," in done.stdout.decode()


def test_work_is_done_though_nobody_reads_its_notes(copied: Path, gone: int) -> None:
    (copied / "names.txt").write_text("Zžž\n", encoding="utf-8")
    given = ("predict", "--save-dir", "run", "-i", "names.txt", "-o", "out.csv")
    done = subprocess.run(command(*given), cwd=copied, env=environment(), stderr=gone, check=False)
    assert done.returncode == 0
    assert (copied / "out.csv").read_text(encoding="utf-8").count("\n") == 2
    refused = ("predict", "--save-dir", "none", "Ramini")
    done = subprocess.run(
        command(*refused), cwd=copied, env=environment(), stderr=gone, stdout=gone, check=False
    )
    assert done.returncode == 2


@pytest.mark.slow
@pytest.mark.parametrize("out", ["pipe", "gone", "closed"])
@pytest.mark.parametrize("err", ["pipe", "gone", "closed"])
def test_every_command_ends_well_without_readers(
    copied: Path, gone: int, out: str, err: str
) -> None:
    (copied / "names.txt").write_text("Zžž\nRamini\n", encoding="utf-8")
    table, where = ("--surname-csv", "small.csv"), ("--save-dir", "run")
    streams = {"pipe": subprocess.PIPE, "gone": gone, "closed": None}
    closing = "".join(f" {n}>&-" for n, way in ((1, out), (2, err)) if way == "closed")
    for given, status in (
        (("train", *table, "--save-dir", "new", "--num-epochs", "1", *SMALL), 0),
        (("predict", *where, "Ramini", "Zžž"), 0),
        (("predict", *where, "--json", "Zžž"), 0),
        (("predict", *where, "-i", "names.txt"), 2 if out == "closed" else 0),
        (("evaluate", *where, *table), 0),
        (("gradient-flow", *where, *table), 0),
        (("export", *where), 0),
        (("predict", "--save-dir", "none", "Ramini"), 2),
        (("train", "--no-such-option"), 2),
    ):
        done = subprocess.run(
            ["sh", "-c", f'exec "$@"{closing}', "sh", *command(*given)], cwd=copied,
            env=environment(), stdout=streams[out], stderr=streams[err], check=False,
        )  # fmt: skip
        assert done.returncode == status, (given, done)
        assert b"Traceback" not in (done.stdout or b"") + (done.stderr or b"")
    assert set(tree(copied / "new")) == FILES


@pytest.mark.parametrize("columns", ["40", "10"])
def test_help_fits_a_narrow_terminal(
    columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    for name in COMMANDS:
        assert run_main(name, "--help") == 0
        assert capsys.readouterr().out.startswith(f"usage: npnlp {name}")
