"""The same command gives the same bits, wherever and in whatever surroundings it runs."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from npnlp.backend.threads import THREAD_VARIABLES, blas_in_use
from npnlp.files.tensors import load_tensors, save_tensors
from npnlp.runs.checkpoint import load_checkpoint, settings_of
from npnlp.runs.fingerprint import TIMING, fingerprint, fingerprints, without_timing
from npnlp.runs.report import write_report
from npnlp.runs.run import Run
from tests.support.strict import StrictBackend
from tests.support.tables import (
    FILES,
    SMALL,
    command,
    finished_run,
    make_run,
    read_json,
    refusal,
    stop_after,
    train_small,
    tree,
    write_table,
)

#: Two surroundings that have nothing in common but the machine.
SURROUNDINGS = {
    "one": {"PYTHONHASHSEED": "0", "TZ": "UTC", "LANG": "C", "LC_ALL": "C", "HOME": "/"},
    "other": {
        "PYTHONHASHSEED": "4294967295", "TZ": "Asia/Seoul", "LANG": "ko_KR.UTF-8",
        "LC_ALL": "C.UTF-8", "COLUMNS": "40", "PYTHONUTF8": "1",
    },
}  # fmt: skip
RECIPES: dict[str, tuple[str, ...]] = {
    "elman": (),
    "lstm, both directions": ("--cell", "lstm", "--bidirectional", "--num-layers", "2"),
    "transformer": ("--cell", "transformer", "--rnn-dropout", "0.1", "--pooling", "mean"),
    "wide": (
        "--recipe", "wide", "--rnn-hidden-size", "8", "--char-embedding-size", "6",
        "--ngram-size", "4", "--num-epochs", "2",
    ),
}  # fmt: skip


def train(folder: Path, surroundings: dict[str, str], *options: str) -> dict[str, str]:
    """The fingerprints of what the command leaves in ``folder``, run from its parent."""
    folder.parent.mkdir(parents=True)
    write_table(folder.parent / "small.csv")
    bare = {k: v for k, v in os.environ.items() if k not in THREAD_VARIABLES}
    done = subprocess.run(
        command(
            "train", "--surname-csv", "small.csv", "--save-dir", folder.name, *SMALL,
            "--num-epochs", "3", *options,
        ),
        cwd=folder.parent, env={**bare, "PYTHONPATH": str(ROOT), **surroundings},
        capture_output=True, timeout=900, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    return fingerprints(folder)


ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The fingerprints of a run that asks for nothing."""
    return train(tmp_path_factory.mktemp("plain") / "a" / "run", SURROUNDINGS["one"])


def test_the_plain_command_gives_the_same_files(plain: dict[str, str], tmp_path: Path) -> None:
    """Weights, moments, history, metrics, card and pictures; nothing but times may differ."""
    assert set(plain) == FILES
    assert train(tmp_path / "deep" / "run", SURROUNDINGS["other"]) == plain


@pytest.mark.parametrize(
    "recipe",
    [pytest.param(name, marks=pytest.mark.slow) for name in RECIPES if RECIPES[name]],
)
def test_the_same_command_gives_the_same_files(tmp_path: Path, recipe: str) -> None:
    """Weights, moments, history, metrics, card and pictures; nothing but times may differ."""
    first, second = (
        train(tmp_path / name / ("deep/" * place) / "run", surroundings, *RECIPES[recipe])
        for place, (name, surroundings) in enumerate(SURROUNDINGS.items())
    )
    offered = recipe.startswith(("elman", "lstm"))  # by a page
    assert set(first) == (FILES if offered else FILES - {"page.html"})
    assert first == second


@pytest.mark.slow
@pytest.mark.parametrize("variable", THREAD_VARIABLES[::2])
@pytest.mark.parametrize("threads", ["1", "2"])  # one is what the command takes
def test_the_same_number_of_threads_gives_the_same_files(
    tmp_path: Path, variable: str, threads: str
) -> None:
    asked = {variable: threads}
    first, second = (train(tmp_path / name / "run", asked) for name in ("a", "b"))
    assert first == second


def test_one_thread_is_what_it_takes_unasked(plain: dict[str, str], tmp_path: Path) -> None:
    assert train(tmp_path / "asked" / "run", {"OPENBLAS_NUM_THREADS": "1"}) == plain


def test_another_seed_would_be_seen(plain: dict[str, str], tmp_path: Path) -> None:
    """The comparisons above can fail."""
    other = train(tmp_path / "6" / "run", {}, "--seed", "6")
    for name in FILES - {"vectorizer.json"}:  # the same vocabularies, and perhaps another reading
        assert other[name] != plain[name], name


# --- the fingerprint


@pytest.fixture
def copied(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Path:
    """A finished run that a test may change, beside its table."""
    shutil.copytree(finished_run(tmp_path_factory), tmp_path / "run")
    write_table(tmp_path / "small.csv")
    return tmp_path / "run"


def test_timing_fields_are_there_and_alone_are_left_out(copied: Path) -> None:
    metrics = read_json(copied / "metrics.json")
    kept = without_timing(metrics)
    assert metrics["timing"].keys() - kept["timing"].keys() == set(TIMING[2:])
    assert {k: v for k, v in metrics.items() if k != "timing"} == {
        k: v for k, v in kept.items() if k != "timing"
    }
    header = (copied / "history.csv").read_text().splitlines()[0].split(",")
    assert set(TIMING[:2]) < set(header)


@pytest.mark.parametrize("name", ["last.safetensors", "history.csv", "metrics.json"])
def test_a_time_does_not_change_a_fingerprint_and_all_else_does(copied: Path, name: str) -> None:
    path = copied / name
    before, content = fingerprint(path), path.read_bytes()

    def changed(field: str) -> str:
        change_number(path, field)
        assert path.read_bytes() != content
        found = fingerprint(path)
        path.write_bytes(content)
        return found

    timing, other = {
        "last.safetensors": ("seconds", "grad_norm"),
        "history.csv": ("seconds", "grad_norm"),
        "metrics.json": ("train_seconds", "best_epoch"),
    }[name]
    assert changed(timing) == before
    assert changed(other) != before


def change_number(path: Path, field: str) -> None:
    """Set the first number of that name to 77."""
    if path.suffix == ".safetensors":
        tensors, values = load_tensors(path, "npnlp checkpoint")
        if field in TIMING:
            values["state"]["history"][field][0] = 77.0
        else:
            tensors["history"][0, values["state"]["history"]["columns"].index(field)] = 77.0
        save_tensors(path, "npnlp checkpoint", tensors, values)
    elif path.suffix == ".csv":
        header, row, *rest = path.read_text().splitlines()
        cells = row.split(",")
        cells[header.split(",").index(field)] = "77"
        path.write_text("\n".join([header, ",".join(cells), *rest, ""]))
    else:
        before = read_json(path)["timing"][field]
        text = path.read_text()
        path.write_text(text.replace(f'"{field}": {before}', f'"{field}": 77'))


# --- on what it was computed


def test_a_run_says_on_what_it_was_computed(copied: Path) -> None:
    (noted,) = read_json(copied / "metrics.json")["computed_on"]
    assert (noted["from_epoch"], noted["from_batch"], noted["backend"]) == (0, 0, "numpy")
    assert "thread" in noted["blas"]
    assert "thread" in blas_in_use()


def test_another_backend_goes_on_and_is_noted(tmp_path: Path) -> None:
    stop_after(make_run(tmp_path / "run"), 4)
    run = on_strict(make_run(tmp_path / "run"))
    assert run.resume()
    run.train()
    write_report(run, run.evaluate())
    noted = read_json(tmp_path / "run" / "metrics.json")["computed_on"]
    assert [(n["backend"], n["from_epoch"], n["from_batch"]) for n in noted] == [
        ("numpy", 0, 0), ("strict", 1, 1),
    ]  # fmt: skip
    values = load_tensors(tmp_path / "run" / "last.safetensors", "npnlp checkpoint")[1]
    assert values["state"]["progress"]["computed_on"] == noted


def on_strict(run: Run) -> Run:
    config, shape = run.trainer.config, run.trainer.model.config.to_dict()
    chosen = {k: shape[k] for k in ("embedding_size", "rnn_hidden_size")}
    return Run.make(run.dataset, config, chosen, StrictBackend(), run.save_dir)


def test_other_threads_go_on_and_are_noted(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "run"
    stop_after(make_run(folder), 4)
    shutil.move(folder.parent, tmp_path / "kept")
    resumed = tmp_path / "kept" / "run"
    done = subprocess.run(
        command("train", "--surname-csv", tmp_path / "kept" / "small.csv", "--save-dir", resumed,
                *SMALL, "--num-epochs", "3", "--resume", "--quiet"),
        env={**os.environ, "OPENBLAS_NUM_THREADS": "2", "PYTHONPATH": str(ROOT)},
        capture_output=True, timeout=900, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    noted = read_json(resumed / "metrics.json")["computed_on"]
    assert noted[-1]["blas"].endswith("2 threads")


# --- the rule of docs/determinism.md


def documented() -> dict[str, str]:
    """What docs/determinism.md says happens to each setting, by its name."""
    page = (ROOT / "docs/determinism.md").read_text("utf-8")
    section = page.split("<!-- settings -->")[1].split("<!-- end of settings -->")[0]
    rows = [line.strip("| ").split(" | ") for line in section.strip().splitlines()[2:]]
    return {name.strip("`"): verdict for names, verdict in rows for name in names.split(", ")}


def test_the_rule_names_every_setting(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    known = {*settings_of(run.trainer, run.dataset), *vars(run.trainer.config)}
    assert {n for n, v in documented().items() if "noted" not in v} == known


def test_the_rule_says_what_happens(tmp_path: Path) -> None:
    """Every setting changed in the file, as if the run that wrote it had had another."""
    stop_after(make_run(tmp_path / "run"), 2)
    path = tmp_path / "run" / "last.safetensors"
    tensors, values = load_tensors(path, "npnlp checkpoint")
    for name, verdict in documented().items():
        if "noted" in verdict:
            continue
        changed: dict[str, Any] = {**values, "settings": {**values["settings"], name: "other"}}
        save_tensors(path, "npnlp checkpoint", tensors, changed)
        run = make_run(tmp_path / "run")
        settings = settings_of(run.trainer, run.dataset)
        if verdict.startswith("may change"):
            load_checkpoint(path, run.trainer, settings)
            continue
        with pytest.raises(ValueError, match=f"that run had .*{name}"):
            load_checkpoint(path, run.trainer, settings)


def test_a_schedule_that_ends_with_the_run_cannot_be_prolonged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_small(tmp_path / "run", "--schedule", "onecycle") == 0
    before = tree(tmp_path / "run")
    assert train_small(tmp_path / "run", "--schedule", "onecycle", "--resume", epochs=5) == 2
    refusal(capsys.readouterr().err, "last.safetensors", "num_epochs 3", "5")
    assert tree(tmp_path / "run") == before


def test_a_setting_that_an_older_checkpoint_lacks_had_its_default(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stop_after(make_run(tmp_path / "run"), 2)
    path = tmp_path / "run" / "last.safetensors"
    tensors, values = load_tensors(path, "npnlp checkpoint")
    for name in ("ngram_orders", "clip_norm", "bucket"):
        del values["settings"][name]
    save_tensors(path, "npnlp checkpoint", tensors, values)
    before = tree(tmp_path / "run")
    assert train_small(tmp_path / "run", "--resume", "--bucket", "2") == 2
    refusal(capsys.readouterr().err, "that run had bucket 0, this one 2")
    assert tree(tmp_path / "run") == before
    assert train_small(tmp_path / "run", "--resume") == 0


def test_the_table_says_what_the_results_say() -> None:
    tables = runpy.run_path(str(ROOT / "tools/determinism_tables.py"))
    filled = f"<!-- determinism -->\n{tables['determinism']()}\n<!-- end of determinism -->"
    assert filled in (ROOT / "docs/determinism.md").read_text("utf-8")
