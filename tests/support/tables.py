"""Small tables, damaged tables, and ways to run the command, for several test modules."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from npnlp.backend import get_backend
from npnlp.cli import main
from npnlp.files.tensors import load_tensors
from npnlp.runs.checkpoint import save_checkpoint, settings_of
from npnlp.runs.run import Run
from npnlp.text import SurnameDataset
from npnlp.text.rows import Rows
from npnlp.text.splits import with_split
from npnlp.training.config import TrainingConfig

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = ("nationality", "split", "surname")
CLASSES = {
    "Italian": ("ini", "etti", "R"),
    "Russian": ("ov", "enko", "V"),
    "Japanese": ("moto", "saki", "N"),
}
STEMS = ("am", "bel", "cor", "dan", "er", "fas", "gal", "hus", "il", "jor")

#: Options of a run that takes a fraction of a second.
SMALL = (
    "--char-embedding-size", "6", "--rnn-hidden-size", "8", "--batch-size", "16",
    "--learning-rate", "0.02", "--seed", "5",
)  # fmt: skip
#: What a finished run leaves in its folder.
FILES = {
    "model.safetensors",
    "last.safetensors",
    "vectorizer.json",
    "metrics.json",
    "history.csv",
    "gradient_flow.csv",
    "confusion_matrix.csv",
    "reliability.csv",
    "MODEL_CARD.md",
    "learning_curves.png",
    "gradient_norms.png",
    "gradient_flow.png",
    "confusion_matrix.png",
    "reliability.png",
    "page.html",
}
#: And what it leaves with ``--no-pictures``.
UNDRAWN_FILES = {name for name in FILES if not name.endswith((".png", ".html"))}
#: Columns of history.csv that a clock fills.
CLOCK = ["seconds", "names_per_second"]

Row = tuple[str, str, str]


def small_rows(labels: Sequence[str] = tuple(CLASSES)) -> list[Row]:
    """Sixty rows (nationality, split, surname): 14, 3 and 3 of each of three classes."""
    rows = []
    for label, (first, second, letter) in zip(labels, CLASSES.values(), strict=True):
        names = [f"{letter}{stem}{ending}" for stem in STEMS for ending in (first, second)]
        splits = ["train"] * 14 + ["val"] * 3 + ["test"] * 3
        rows += [(label, split, name) for split, name in zip(splits, names, strict=True)]
    return rows


def frame_of(rows: Iterable[Row]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=list(COLUMNS))


def divided(frame: pd.DataFrame, *arguments: Any, **options: Any) -> pd.DataFrame:
    """:func:`npnlp.text.splits.with_split` of a frame."""
    return with_split(Rows.of(frame), *arguments, **options).frame()


def csv_text(rows: Iterable[Row]) -> str:
    return "\n".join([",".join(COLUMNS), *(",".join(row) for row in rows)]) + "\n"


def write_table(path: Path, rows: Iterable[Row] | None = None) -> Path:
    text = csv_text(small_rows() if rows is None else rows)
    path.write_text(text, encoding="utf-8", newline="")
    return path


def small_dataset(folder: Path) -> SurnameDataset:
    return SurnameDataset.load_dataset_and_make_vectorizer(write_table(folder / "small.csv"))


@dataclass(frozen=True)
class Bad:
    """A table that cannot be read, and what the message has to speak of besides the file."""

    content: bytes | None
    words: tuple[str, ...]
    folder: bool = False

    def put(self, path: Path) -> Path:
        if self.folder:
            path.mkdir()
        elif self.content is not None:
            path.write_bytes(self.content)
        return path


HEADER = "nationality,split,surname\n"
GOOD = "Italian,train,Rossi\n"
PNG = bytes.fromhex("89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de")

BAD_TABLES: dict[str, Bad] = {
    "missing file": Bad(None, ("no such file",)),
    "a folder": Bad(None, ("directory",), folder=True),
    "a picture": Bad(PNG, ("row 1", "UTF-8")),
    "json on one line": Bad(b'{"surname": ["Rossi"], "nationality": ["Italian"]}', ("row 1",)),
    "json on many lines": Bad(json.dumps([{"surname": "Rossi"}], indent=1).encode(), ("row 1",)),
    "empty file": Bad(b"", ("empty",)),
    "only a byte-order mark": Bad(b"\xef\xbb\xbf", ("empty",)),
    "header alone": Bad(HEADER.encode(), ("no rows",)),
    "column missing": Bad(b"nationality,split,nom\nItalian,train,Rossi\n", ("row 1", "'surname'")),
    "other column missing": Bad(b"split,surname\ntrain,Rossi\n", ("row 1", "'nationality'")),
    "column twice": Bad(
        b"nationality,split,surname,surname\nItalian,train,Rossi,Verdi\n",
        ("row 1", "'surname'", "twice"),
    ),
    "empty name": Bad(f"{HEADER}{GOOD}Italian,train,\n".encode(), ("row 3", "column surname")),
    "blank name": Bad(f"{HEADER}{GOOD}Italian,train, \t \n".encode(), ("row 3", "column surname")),
    "no-break space as a name": Bad(
        f"{HEADER}{GOOD}Italian,train,\u00a0\n".encode(), ("row 3", "column surname")
    ),
    "empty nationality": Bad(
        f"{HEADER}{GOOD},train,Verdi\n".encode(), ("row 3", "column nationality")
    ),
    "unknown split": Bad(
        f"{HEADER}{GOOD}Italian,third,Verdi\n".encode(), ("row 3", "column split", "'third'")
    ),
    "empty split": Bad(f"{HEADER}{GOOD}Italian,,Verdi\n".encode(), ("row 3", "column split")),
    "too many fields": Bad(
        f"{HEADER}{GOOD}Italian,train,Verdi,G\n".encode(), ("row 3", "4 fields", "3")
    ),
    "too few fields": Bad(f"{HEADER}{GOOD}\nItalian,Verdi\n".encode(), ("row 4", "2 fields", "3")),
    "Latin-1": Bad(
        f"{HEADER}{GOOD}French,train,Lef\u00e8vre\n".encode("latin-1"),
        ("row 3", "column surname", "UTF-8"),
    ),
    "half of UTF-16": Bad(f"{HEADER}{GOOD}".encode("utf-16")[:-1], ("UTF-16",)),
    "UTF-16 without its mark": Bad(f"{HEADER}{GOOD}".encode("utf-16-le"), ("row 1", "UTF-16")),
    "half of a gzip": Bad(gzip.compress(f"{HEADER}{GOOD}".encode())[:-9], ("gzip",)),
    "a spreadsheet": Bad(b"PK\x03\x04" + bytes(40), ("spreadsheet", "CSV")),
    "NUL byte": Bad(f"{HEADER}{GOOD}Italian,train,Ver\0di\n".encode(), ("row 3",)),
    "unclosed quote": Bad(f'{HEADER}{GOOD}Italian,train,"Verdi\n'.encode(), ("not valid CSV",)),
    "letters after a quote": Bad(
        f'{HEADER}{GOOD}Italian,train,"Ver"di\n'.encode(), ("row 3", "not valid CSV")
    ),
}

#: Tables that can be read, but not divided into splits to train on.
UNFIT_TABLES: dict[str, Bad] = {
    "no rows in a split": Bad(
        csv_text(row for row in small_rows() if row[1] != "val").encode(), ("split", "'val'")
    ),
    "class absent from train": Bad(
        csv_text(row for row in small_rows() if row[:2] != ("Russian", "train")).encode(),
        ("row 22", "column nationality", "'Russian'"),
    ),
    "one class": Bad(
        csv_text(row for row in small_rows() if row[0] == "Italian").encode(),
        ("column nationality", "'Italian'"),
    ),
    "too few to divide": Bad(b"nationality,surname\nItalian,Rossi\nGreek,Pappas\n", ("split",)),
}


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def run_main(*arguments: str | Path) -> int:
    """The status of the command, run in this process."""
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return int(stop.code or 0)


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "npnlp", *map(str, arguments)]


def environment(**changes: str) -> dict[str, str]:
    """One BLAS thread: small products on busy cores only wait for each other."""
    return {**os.environ, "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", **changes}


def npnlp(
    *arguments: str | Path, stdin: bytes = b"", cwd: Path | None = None, **changes: str
) -> subprocess.CompletedProcess[bytes]:
    """The command in a process of its own."""
    return subprocess.run(
        command(*arguments), input=stdin, capture_output=True, timeout=900, check=False,
        cwd=cwd, env=environment(**changes),
    )  # fmt: skip


def train_small(folder: Path, *options: str | Path, epochs: int = 3) -> int:
    """Train on the small table, which is put beside the folder of the run."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    table = folder.parent / "small.csv"
    if not table.exists():
        write_table(table)
    return run_main(
        "train", "--surname-csv", table, "--save-dir", folder, "--num-epochs", str(epochs),
        "--quiet", *SMALL, *options,
    )  # fmt: skip


def finished_run(factory: pytest.TempPathFactory) -> Path:
    """A finished run on the small table, made once; to be read, not to be written to."""
    folder = factory.getbasetemp() / "finished" / "run"
    if not folder.exists():
        from tests.support.pictures import drawn_for_others  # Matplotlib takes a while to import

        with pytest.MonkeyPatch.context() as patch:  # its own pictures, not those of another run
            patch.setattr("npnlp.plots.draw_run", drawn_for_others)
            assert train_small(folder) == 0
    return folder


def make_run(
    folder: Path,
    rows: Iterable[Row] | None = None,
    shape: dict[str, Any] | None = None,
    **config: Any,
) -> Run:
    """The run that :func:`train_small` makes, before it begins, and without the command."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    table = write_table(folder.parent / "small.csv", rows)
    dataset = SurnameDataset.load_dataset_and_make_vectorizer(table)
    settings = {"num_epochs": 3, "learning_rate": 0.02, "batch_size": 16, "seed": 5} | config
    sizes = {"embedding_size": 6, "rnn_hidden_size": 8} | (shape or {})
    return Run.make(dataset, TrainingConfig(**settings), sizes, get_backend("numpy"), folder)


def check_same_tensors(first: Path, second: Path, kind: str) -> tuple[Any, Any]:
    """Check that two files hold the same bits; the values beside them."""
    (tensors, values), (others, other_values) = (load_tensors(f, kind) for f in (first, second))
    assert set(tensors) == set(others)
    assert tensors
    for name, value in tensors.items():
        assert value.dtype == others[name].dtype, name
        assert value.tobytes() == others[name].tobytes(), name
    return values, other_values


def check_same_weights(first: Path, second: Path) -> None:
    """Check that two runs came to the same bits, in the model and in the checkpoint."""
    model, other_model = check_same_tensors(
        first / "model.safetensors", second / "model.safetensors", "npnlp classifier"
    )
    assert model == other_model
    last, other_last = check_same_tensors(
        first / "last.safetensors", second / "last.safetensors", "npnlp checkpoint"
    )
    for values in (last, other_last):
        for name in CLOCK:
            values["state"]["history"].pop(name, None)
        values["settings"].pop("num_epochs", None)
    assert last == other_last
    histories = [pd.read_csv(f / "history.csv").drop(columns=CLOCK) for f in (first, second)]
    assert histories[0].equals(histories[1])


def check_same_run(first: Path, second: Path) -> None:
    """Check that two finished runs agree in all but time."""
    check_same_weights(first, second)
    for name in ("vectorizer.json", "confusion_matrix.csv", "gradient_flow.csv"):
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
    metrics, others = (read_json(f / "metrics.json") for f in (first, second))
    for found in (metrics, others):
        for name in ("train_names_per_second", "train_seconds"):
            del found["timing"][name]
    assert metrics == others


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def is_one_line(text: str) -> bool:
    return text.endswith("\n") and text.count("\n") == 1 and len(text) > 1


def refusal(text: str, *words: str | Path) -> str:
    """Check that a text on standard error is one line that has the words; the text."""
    assert is_one_line(text), text
    assert "Traceback" not in text
    for word in words:
        assert str(word) in text, text
    return text


class Stop(Exception):
    """What a test raises from ``on_batch``."""


def stop_after(run: Run, batches: int) -> None:
    """Train for some batches, and write the checkpoint there."""
    left = batches

    def on_batch() -> None:
        nonlocal left
        left -= 1
        if not left:
            raise Stop

    with contextlib.suppress(Stop):
        while True:
            run.trainer.run_epoch(on_batch)
    assert left == 0
    run.save_dir.mkdir(parents=True)
    save_checkpoint(run.checkpoint_file, run.trainer, settings_of(run.trainer, run.dataset))
