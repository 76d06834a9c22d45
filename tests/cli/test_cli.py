"""The command: predicting, evaluating, help, and what happens to its streams."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import npnlp
from npnlp.backend import get_backend
from npnlp.classifier.classifier import Classifier
from npnlp.cli.commands import make_parser
from npnlp.errors import DeviceError
from tests.support.tables import (
    CLASSES,
    FILES,
    SMALL,
    command,
    environment,
    finished_run,
    read_json,
    refusal,
    run_main,
    small_rows,
    train_small,
    tree,
    write_table,
)
from tests.support.tables import npnlp as npnlp_command

KEYS = {"surname", "nationality", "probability", "top"}
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_run(tmp_path_factory)


def predict(folder: Path, capsys: Capture, *arguments: str) -> tuple[list[dict[str, Any]], str]:
    """What ``predict --json`` prints, and its notes."""
    assert run_main("predict", "--save-dir", folder, "--json", *arguments) == 0
    printed = capsys.readouterr()
    found: list[dict[str, Any]] = json.loads(printed.out)
    return found, printed.err


def test_json_has_the_keys_of_the_contract(finished: Path, capsys: Capture) -> None:
    found, notes = predict(finished, capsys, "Ramini", "Vamov", "--top-k", "2")
    assert notes == ""
    assert [entry["surname"] for entry in found] == ["Ramini", "Vamov"]
    for entry in found:
        assert set(entry) == KEYS
        assert len(entry["top"]) == 2
        assert all(set(choice) == {"nationality", "probability"} for choice in entry["top"])
        assert entry["top"][0]["nationality"] == entry["nationality"]
        assert entry["top"][0]["probability"] == entry["probability"]
        assert type(entry["probability"]) is float


def test_one_choice_is_shown_unless_more_are_asked_for(finished: Path, capsys: Capture) -> None:
    found, _ = predict(finished, capsys, "Ramini")
    assert len(found[0]["top"]) == 1


@pytest.mark.parametrize("top_k", ["3", "99"])
def test_all_probabilities_sum_to_one_best_first(
    finished: Path, capsys: Capture, top_k: str
) -> None:
    found, _ = predict(finished, capsys, "Ramini", "Vamov", "Namoto", "--top-k", top_k)
    for entry in found:
        shares = [choice["probability"] for choice in entry["top"]]
        assert sum(shares) == pytest.approx(1, abs=2e-6)  # six digits each
        assert shares == sorted(shares, reverse=True)
        assert {choice["nationality"] for choice in entry["top"]} == set(CLASSES)


def test_the_command_predicts_what_the_library_predicts(finished: Path, capsys: Capture) -> None:
    names = ["Ramini", "Vamov", "Namoto", "Relenko"]
    found, _ = predict(finished, capsys, *names, "--top-k", "3", "--exact")
    predictions = Classifier.load(finished / "model.safetensors").predict(names, 3, exact=True)
    assert found == [prediction.to_dict() for prediction in predictions]


def test_a_name_alone_is_predicted_as_among_others(finished: Path) -> None:
    classifier = Classifier.load(finished / "model.safetensors")
    names = ["Ramini", "V", "Namotomotomoto", "Vamov"] * 3
    together = classifier.probabilities(names)
    for name, row in zip(names, together, strict=True):
        assert classifier.probabilities([name])[0] == pytest.approx(row, abs=1e-6)


def test_a_trained_model_knows_its_classes(tmp_path: Path, capsys: Capture) -> None:
    assert train_small(tmp_path / "run", "--dropout", "0", epochs=25) == 0
    found, _ = predict(tmp_path / "run", capsys, "Ramini", "Vamov", "Namoto")
    assert [entry["nationality"] for entry in found] == list(CLASSES)


def test_the_table_shows_a_line_a_name(finished: Path, capsys: Capture) -> None:
    assert run_main("predict", "--save-dir", finished, "Ramini", "Vamov", "--top-k", "3") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["Ramini", "Vamov"]
    assert all(label in line for line in lines for label in CLASSES)


def test_a_name_may_begin_with_a_hyphen_after_two(finished: Path, capsys: Capture) -> None:
    assert run_main("predict", "--save-dir", finished, "--", "-Ramini") == 0
    assert capsys.readouterr().out.startswith("-Ramini")


def test_composed_and_decomposed_names_are_one_name(finished: Path, capsys: Capture) -> None:
    found, _ = predict(finished, capsys, "Ren\u00e9", "Rene\u0301", "--top-k", "3")
    assert found[0]["top"] == found[1]["top"]


@pytest.mark.parametrize(
    ("name", "unknown"),
    [("Ram\N{GRINNING FACE}ini", "\N{GRINNING FACE}"), ("R\u00f6ssi", "\u00f6"),
     ("Ra\u5c71\u672c", "\u5c71 \u672c"), ("Ra7\u0301", "\u0301")],
)  # fmt: skip
def test_characters_never_seen_are_noted(
    finished: Path, capsys: Capture, name: str, unknown: str
) -> None:
    found, notes = predict(finished, capsys, name)
    assert found[0]["surname"] == name
    assert 0 < found[0]["probability"] <= 1
    refusal(notes, "npnlp predict: note:", unknown)


def test_every_name_with_unknown_characters_has_its_note(finished: Path, capsys: Capture) -> None:
    _, notes = predict(finished, capsys, "\u5c71", "Ramini", "\u672c")
    assert notes.count("\n") == 2
    assert "Ramini" not in notes


def test_a_name_of_ten_thousand_characters_is_a_name(finished: Path, capsys: Capture) -> None:
    found, notes = predict(finished, capsys, "Ram" * 3_333 + "i")
    assert len(found[0]["surname"]) == 10_000
    refusal(notes, "npnlp predict: note: 1 name is written unlike", "longer than 16 characters")


def test_a_note_of_a_long_name_is_short(finished: Path, capsys: Capture) -> None:
    _, notes = predict(finished, capsys, "\u5c71" + "Ram" * 3_333)
    assert len(notes) < 500


def test_a_line_end_in_a_name_does_not_break_the_note(finished: Path, capsys: Capture) -> None:
    _, notes = predict(finished, capsys, "Ram\nini")
    refusal(notes, "note:")


@pytest.mark.parametrize("backend", ["numpy", "auto"])
def test_json_is_json_on_every_backend(finished: Path, capsys: Capture, backend: str) -> None:
    found, _ = predict(finished, capsys, "Ramini", "--backend", backend)
    assert set(found[0]) == KEYS


def from_stdin(folder: Path, stdin: bytes, *arguments: str) -> list[str]:
    done = npnlp_command(
        "predict", "--save-dir", folder, "--json", *(arguments or ("-",)), stdin=stdin
    )
    assert done.returncode == 0, done.stderr
    return [entry["surname"] for entry in json.loads(done.stdout)]


def test_a_hyphen_reads_standard_input_in_its_place(finished: Path) -> None:
    names = from_stdin(finished, b"Namoto\nVamov\n", "Ramini", "-", "Retti")
    assert names == ["Ramini", "Namoto", "Vamov", "Retti"]


@pytest.mark.parametrize(
    "stdin", [b"Namoto\nVamov", b"Namoto\r\nVamov\r\n", b"\xef\xbb\xbfNamoto\nVamov\n"]
)
def test_ends_of_lines_and_marks_are_no_part_of_names(finished: Path, stdin: bytes) -> None:
    assert from_stdin(finished, stdin) == ["Namoto", "Vamov"]


def test_no_names_are_no_predictions(finished: Path) -> None:
    assert from_stdin(finished, b"") == []
    done = npnlp_command("predict", "--save-dir", finished, "-")
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, b"", b"")


@pytest.mark.parametrize(
    ("stdin", "row"),
    [(b"Ramini\n\nVamov\n", "row 2"), (b"Ramini\n \t\nR\n", "row 2"),
     (b"Ramini\nLef\xe8vre\n", "row 2"), (b"R\0a\0", "row 1")],
    ids=["empty line", "blank line", "Latin-1", "UTF-16 without its mark"],
)  # fmt: skip
def test_a_bad_line_on_standard_input_is_named(finished: Path, stdin: bytes, row: str) -> None:
    done = npnlp_command("predict", "--save-dir", finished, "-", stdin=stdin)
    assert (done.returncode, done.stdout) == (2, b"")
    refusal(done.stderr.decode(), "standard input", row)


def test_evaluate_finds_what_training_reported(finished: Path, capsys: Capture) -> None:
    before = tree(finished)
    table = finished.parent / "small.csv"
    assert run_main("evaluate", "--save-dir", finished, "--surname-csv", table, "--json") == 0
    printed = capsys.readouterr()
    metrics = read_json(finished / "metrics.json")
    assert json.loads(printed.out) == {split: metrics[split] for split in ("train", "val", "test")}
    assert printed.err == ""
    assert tree(finished) == before


def test_evaluate_prints_the_same_as_a_table(finished: Path, capsys: Capture) -> None:
    table = finished.parent / "small.csv"
    assert run_main("evaluate", "--save-dir", finished, "--surname-csv", table) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Rows: the table that the model was trained on, divided by column as then"
    metrics = read_json(finished / "metrics.json")
    for line, split, rows in zip(
        lines[2:5], ("train", "val", "test"), ("42", "9", "9"), strict=True
    ):
        assert line.split()[:2] == [split, rows]
        assert f"{metrics[split]['macro_f1']:.4f}" in line
    for line, split in zip(lines[-3:], ("train", "val", "test"), strict=True):
        names = ("log_loss", "brier", "calibration_error")
        # There are too few validation rows for a temperature: both figures are the same.
        pairs = [f"{metrics[split][name]:.4f} ({metrics[split][name]:.4f})" for name in names]
        assert line.split() == [
            split, *" ".join(pairs).split(), f"{metrics[split]['calibration_error_by_chance']:.4f}"
        ]  # fmt: skip


def test_evaluate_weights_the_loss_as_training_did(tmp_path: Path, capsys: Capture) -> None:
    rows = [row for row in small_rows() if row[2] not in ("Ramini", "Rametti", "Vamov")]
    table = write_table(tmp_path / "small.csv", rows)
    weighted = ("--class-weights", "inverse")
    assert train_small(tmp_path / "run", *weighted, "--split-by", "name") == 0
    assert run_main("evaluate", "--save-dir", tmp_path / "run", "--surname-csv", table, "--json",
                    "--split-by", "name", *weighted) == 0  # fmt: skip
    found = json.loads(capsys.readouterr().out)
    metrics = read_json(tmp_path / "run" / "metrics.json")
    assert found == {split: metrics[split] for split in ("train", "val", "test")}


def test_the_model_alone_is_enough_to_predict(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes((finished / "model.safetensors").read_bytes())
    done = npnlp_command("predict", "--save-dir", tmp_path, "Ramini")
    assert (done.returncode, done.stderr) == (0, b"")
    assert set(tree(tmp_path)) == {"model.safetensors"}


def test_the_default_folder_and_table(tmp_path: Path) -> None:
    """From any folder, with nothing but the package: the own table into runs/surnames."""
    options = ("--char-embedding-size", "4", "--rnn-hidden-size", "4", "--batch-size", "512")
    done = npnlp_command("train", "--quick", *options, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    assert set(tree(tmp_path / "runs" / "surnames")) == FILES
    assert npnlp_command("predict", "Nakamoto", cwd=tmp_path).returncode == 0
    assert npnlp_command("evaluate", cwd=tmp_path).returncode == 0


COMMANDS = (
    "train", "evaluate", "predict", "explain", "page", "compare", "gradient-flow", "gradcheck",
    "replay", "export", "import", "verify", "backends",
)  # fmt: skip


def subparsers() -> dict[str, argparse.ArgumentParser]:
    for action in make_parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    raise AssertionError("no commands")


def test_all_commands_are_there() -> None:
    assert set(COMMANDS) == set(subparsers())


@pytest.mark.parametrize("name", COMMANDS)
def test_help_says_what_every_option_is_and_its_default(name: str, capsys: Capture) -> None:
    assert run_main(name, "--help") == 0
    printed = capsys.readouterr()
    text = " ".join(printed.out.split())
    assert printed.err == ""
    for action in subparsers()[name]._actions:
        assert action.help, action.option_strings
        if not action.option_strings or action.nargs == 0 or action.required:
            continue
        assert action.option_strings[0] in text
        after = text.split(f"{action.option_strings[0]} ", 2)[-1]
        assert "(default: " in after, action.option_strings
        if action.default is not None and action.default != []:
            assert f"(default: {action.default})" in text, action.option_strings
    assert "(default: none) (default" not in text
    assert "(default: [])" not in text
    assert " seed's " not in text


def test_help_of_the_command_lists_the_commands(capsys: Capture) -> None:
    assert run_main("--help") == 0
    text = capsys.readouterr().out
    assert all(name in text for name in COMMANDS)


def test_version(capsys: Capture) -> None:
    assert run_main("--version") == 0
    assert capsys.readouterr().out == f"npnlp {npnlp.__version__}\n"


def test_the_installed_command_and_the_module_are_the_same() -> None:
    script = Path(sys.executable).parent / "npnlp"
    if not script.exists():
        pytest.skip("npnlp is not installed in this environment, only importable")
    done = subprocess.run([script, "--version"], capture_output=True, check=True, timeout=900)
    assert done.stdout == npnlp_command("--version").stdout
    assert done.stdout.decode().split() == ["npnlp", npnlp.__version__]


def test_backends_says_what_works(capsys: Capture) -> None:
    assert run_main("backends") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("numpy  works")
    assert lines[1].startswith("cupy ")


def cupy_works() -> bool:
    try:
        get_backend("cupy")
    except DeviceError:
        return False
    return True


@pytest.mark.parametrize("name", ["train", "predict", "evaluate", "gradcheck"])
def test_a_backend_that_is_not_there_is_named_with_a_remedy(
    finished: Path, tmp_path: Path, name: str, capsys: Capture
) -> None:
    if cupy_works():
        pytest.skip("CuPy works here, so that nothing is to be refused")
    folder = [] if name == "gradcheck" else ["--save-dir", str(finished)]
    names = ["Ramini"] if name == "predict" else []
    before = tree(finished)
    assert run_main(name, *folder, "--backend", "cupy", *names) == 2
    printed = capsys.readouterr()
    refusal(printed.err, f"npnlp {name}: backend cupy", "--backend numpy")
    assert printed.out == ""
    assert tree(finished) == before


def names_for_a_full_pipe() -> bytes:
    return b"Ramini\n" * 20_000


def test_a_reader_that_leaves_is_no_error(finished: Path) -> None:
    process = subprocess.Popen(
        command("predict", "--save-dir", finished, "-", "--top-k", "3"), env=environment(),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdin.write(names_for_a_full_pipe())
    process.stdin.close()
    assert process.stdout.readline().startswith(b"Ramini")
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(timeout=900) == 0


def test_training_whose_reader_leaves_is_not_called_done(tmp_path: Path) -> None:
    """Either it goes on to the end without its reader, or its status says that it did not."""
    table = write_table(tmp_path / "small.csv")
    process = subprocess.Popen(
        command("train", "--surname-csv", table, "--save-dir", tmp_path / "run", "--num-epochs",
                "3", *SMALL),
        env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    status = process.wait(timeout=900)
    assert b"Traceback" not in errors
    complete = (tmp_path / "run").exists() and set(tree(tmp_path / "run")) == FILES
    assert complete or status != 0


def shell(
    script: str, *arguments: str | Path, **changes: str
) -> subprocess.CompletedProcess[bytes]:
    """``$@`` of the script is the command with the arguments."""
    return subprocess.run(
        ["sh", "-c", script, "sh", *command(*arguments)], env=environment(**changes),
        capture_output=True, check=False, timeout=900, stdin=subprocess.DEVNULL,
    )  # fmt: skip


posix = pytest.mark.skipif(sys.platform == "win32", reason="the shell is POSIX's")
full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")


@posix
@pytest.mark.parametrize("redirection", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_traceback(finished: Path, redirection: str) -> None:
    done = shell(f'"$@" {redirection}', "predict", "--save-dir", finished, "Ramini")
    assert b"Traceback" not in done.stderr
    assert done.returncode == 0


@posix
def test_reading_a_closed_standard_input_is_bad_input(finished: Path) -> None:
    done = shell('"$@" <&-', "predict", "--save-dir", finished, "-")
    assert done.returncode == 2
    refusal(done.stderr.decode(), "standard input")


@posix
@full
def test_a_full_disk_under_standard_output_is_one_line(finished: Path) -> None:
    done = shell('"$@" > /dev/full', "predict", "--save-dir", finished, "Ramini")
    assert done.returncode == 2
    refusal(done.stderr.decode(), "No space left")


@posix
@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_a_name_in_another_encoding_is_no_traceback(finished: Path, errors: str) -> None:
    done = subprocess.run(
        [*map(str.encode, command("predict", "--save-dir", finished)), b"M\xfcller"],
        capture_output=True, check=False, timeout=900,
        env=environment(PYTHONIOENCODING=f"utf-8:{errors}"),
    )  # fmt: skip
    assert b"Traceback" not in done.stderr
    assert done.returncode == 2
    refusal(done.stderr.decode(), "UTF-8")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_a_terminal_without_a_character_is_no_traceback(finished: Path, encoding: str) -> None:
    name = "Nakam\u014dto"
    done = npnlp_command("predict", "--save-dir", finished, name, PYTHONIOENCODING=encoding)
    assert b"Traceback" not in done.stderr
    assert done.returncode in (0, 2)
    assert done.stderr.count(b"\n") == 1


def test_warnings_as_errors_change_nothing(finished: Path) -> None:
    done = npnlp_command("predict", "--save-dir", finished, "Ramini", PYTHONWARNINGS="error")
    assert (done.returncode, done.stderr) == (0, b"")
