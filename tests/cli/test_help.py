"""The command helps: what was probably meant, whose help to read, and what to do first."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.tables import finished_run, npnlp, refusal, run_main, write_table

Capture = pytest.CaptureFixture[str]
TRAIN, PREDICT = "see npnlp train --help", "see npnlp predict --help"

MEANT = [
    (("train", "--bach-size", "3"), ("did you mean --batch-size?", TRAIN)),
    (("train", "--batch_size=3"), ("did you mean --batch-size?", TRAIN)),
    (("train", "--cell", "ltsm"), ("'ltsm'", "did you mean lstm?", TRAIN)),
    (("predict", "--topk", "3", "Rossi"), ("did you mean --top-k?", PREDICT)),
    (("evaluate", "--jsno"), ("did you mean --json?", "see npnlp evaluate --help")),
    (("train", "small.csv"), ("a table is given with --surname-csv small.csv", TRAIN)),
    (("evaluate", "small.csv"), ("--surname-csv small.csv", "see npnlp evaluate --help")),
    (("predit", "Rossi"), ("did you mean predict?", "see npnlp --help")),
    (("gradientflow",), ("did you mean gradient-flow?", "see npnlp --help")),
    (("predict", "names.txt"), ("names.txt is a file", "--input names.txt", PREDICT)),
    (("predict", "Rossi", "small.csv", "--json"), ("--input small.csv", PREDICT)),
    (("train", "--surname-csv", "smal.csv"), ("smal.csv: no such file; did you mean small.csv?",)),
    (("verify", "modl.safetensors"), ("no such file; did you mean model.safetensors?",)),
    (("replay", "modl.safetensors"), ("no such file; did you mean model.safetensors?",)),
    (("import", "modl.safetensors", "--save-dir", "new"), ("did you mean model.safetensors?",)),
    (("export",), ("runs/surnames/model.safetensors: no such file", "npnlp train,")),
    (("predict", "Rossi", "--save-dir", "nw"), ("train a model with npnlp train --save-dir nw",)),
    (("export", "--save-dir", "nw"), ("train a model with npnlp train --save-dir nw",)),
    (("evaluate", "--save-dir", "nw"), ("train a model with npnlp train --save-dir nw",)),
    (("gradient-flow", "--save-dir", "nw"), ("train a model with npnlp train --save-dir nw",)),
    (("verify", "some.onnx"), ("train a model with npnlp train",)),
    (("train", "--zzzzzz"), ("unrecognized arguments: --zzzzzz; see npnlp train --help",)),
]  # fmt: skip


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_run(tmp_path_factory)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with some files, to work in."""
    write_table(tmp_path / "small.csv")
    (tmp_path / "names.txt").write_text("Rossi\n", "utf-8")
    for name in ("model.safetensors", "some.onnx"):
        (tmp_path / name).write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("arguments", "words"), MEANT, ids=lambda v: " ".join(v))
def test_what_was_meant_is_said(
    place: Path, arguments: tuple[str, ...], words: tuple[str, ...], capsys: Capture
) -> None:
    if arguments[-1] == "some.onnx":
        (place / "model.safetensors").unlink()
    assert run_main(*arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    refusal(printed.err, "npnlp", *words)


def test_a_missing_list_of_names_is_looked_for(
    finished: Path, place: Path, capsys: Capture
) -> None:
    status = run_main("predict", "--save-dir", finished, "--input", "nmes.txt")
    assert status == 2
    refusal(capsys.readouterr().err, "nmes.txt: no such file; did you mean names.txt?")


def test_the_real_command_says_the_same(place: Path) -> None:
    for arguments, words in (MEANT[0], MEANT[7], MEANT[9], MEANT[16]):
        done = npnlp(*arguments, cwd=place)
        assert (done.returncode, done.stdout) == (2, b"")
        refusal(done.stderr.decode(), *words)


def test_the_notebooks_layout_goes_by_both_names(
    finished: Path, tmp_path: Path, capsys: Capture
) -> None:
    for name in ("notebook", "seed"):
        output = tmp_path / f"{name}.safetensors"
        assert run_main("export", "--save-dir", finished, "--layout", name, "--output", output) == 0
    assert (tmp_path / "notebook.safetensors").read_bytes() == (
        tmp_path / "seed.safetensors"
    ).read_bytes()
