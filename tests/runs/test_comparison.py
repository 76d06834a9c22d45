"""Runs side by side: their figures, what differs, and folders that are no runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pandas as pd
import pytest

from npnlp.cli.compare import lines
from npnlp.cli.compare_picture import comparison, looks
from npnlp.drawing import CELL_COLOURS
from npnlp.errors import InputError
from npnlp.runs.comparison import LAG, Comparison
from tests.support.tables import npnlp as run_npnlp
from tests.support.tables import read_json, refusal, run_main, small_rows, train_small, write_table

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An Elman and a GRU run; to be read, not to be written to."""
    folder = tmp_path_factory.mktemp("pair")
    for cell in ("elman", "gru"):
        assert train_small(folder / cell, "--cell", cell, "--no-pictures") == 0
    return folder / "elman", folder / "gru"


def copied(run: Path, to: Path) -> Path:
    shutil.copytree(run, to)
    return to


def test_figures_are_those_of_the_files(pair: tuple[Path, Path]) -> None:
    found = Comparison.of(pair)
    metrics = [read_json(folder / "metrics.json") for folder in pair]
    figures = found.figures()
    for name, split, score in (
        ("test accuracy", "test", "accuracy"), ("test macro F1", "test", "macro_f1"),
        ("validation loss", "val", "loss"), ("epochs", "timing", "epochs"),
    ):  # fmt: skip
        assert figures[name] == [each[split][score] for each in metrics]
    assert figures["best epoch"] == [each["timing"]["best_epoch"] + 1 for each in metrics]
    flow = pd.read_csv(pair[1] / "gradient_flow.csv").set_index(["epoch", "lag"])
    norms = flow["hidden_grad_mean"]
    for name, epoch in (("first", 0), ("last", 2)):
        left = figures[f"gradient left {LAG} steps back, {name} epoch"][1]
        assert left == pytest.approx(norms[epoch, LAG] / norms[epoch, 0])
    assert found.differences()["cell"] == ["elman", "gru"]
    assert "learning_rate" not in found.differences()
    assert found.notes() == []


def test_of_several_layers_the_last_that_reads_forward_is_shown(tmp_path: Path) -> None:
    options = ("--num-layers", "2", "--bidirectional", "--no-pictures")
    assert train_small(tmp_path / "deep", *options, epochs=1) == 0
    run = Comparison.of([tmp_path / "deep", tmp_path / "deep"]).runs[0]
    flow = pd.read_csv(tmp_path / "deep" / "gradient_flow.csv")
    norms = flow[flow["layer"] == "rnn.l1"]["hidden_grad_mean"].to_numpy()
    assert run.gradient(last=True)["left"].tolist() == (norms / norms[0]).tolist()


def test_a_run_without_gradients_and_a_cell_of_long_ago(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    old = copied(pair[0], tmp_path / "old")
    metrics = read_json(old / "metrics.json")
    del metrics["model"], metrics["timing"]
    (old / "metrics.json").write_text(json.dumps(metrics), "utf-8")
    flow = (old / "gradient_flow.csv").read_text("utf-8").splitlines()[0]
    (old / "gradient_flow.csv").write_text(flow + "\n", "utf-8")
    found = Comparison.of([old, pair[1]])
    assert found.figures()["epochs"][0] is None
    assert found.figures()[f"gradient left {LAG} steps back, last epoch"][0] is None
    assert found.differences()["cell"] == [None, "gru"]
    comparison(found, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").exists()


def test_runs_of_other_names_are_named_by_their_paths(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    again = copied(pair[0], tmp_path / "elman")
    names = [run.name for run in Comparison.of([pair[0], again]).runs]
    assert names == [str(pair[0]), str(again)]


def test_runs_of_other_tables_are_noted(pair: tuple[Path, Path], tmp_path: Path) -> None:
    write_table(tmp_path / "small.csv", small_rows()[:40])
    assert train_small(tmp_path / "fewer", "--no-pictures", epochs=1) == 0
    (note,) = Comparison.of([pair[0], tmp_path / "fewer"]).notes()
    assert "different tables or splits (rows, " in note


def test_each_cell_has_one_colour_and_each_run_a_look_of_its_own(pair: tuple[Path, Path]) -> None:
    first, second = Comparison.of(pair).runs
    elman, gru, again = looks((first, second, first))
    assert (elman["color"], gru["color"]) == (
        CELL_COLOURS["elman"].lower(),
        CELL_COLOURS["gru"].lower(),
    )
    assert elman["color"] != again["color"]
    assert elman["linestyle"] != again["linestyle"]
    assert len(set(CELL_COLOURS.values())) == len(CELL_COLOURS)


def test_the_command_shows_tables_json_and_a_picture(
    pair: tuple[Path, Path], tmp_path: Path, capsys: Capture
) -> None:
    assert run_main("compare", *pair, "--output", tmp_path / "both.png") == 0
    printed = capsys.readouterr()
    refusal(printed.err, f"wrote {tmp_path / 'both.png'}")
    picture = matplotlib.image.imread(tmp_path / "both.png")
    assert picture.shape[:2] == (1200, 1800)
    rows = printed.out.splitlines()
    assert rows[0].split() == ["elman", "gru"]
    (accuracy,) = [line.split()[2:] for line in rows if line.startswith("test accuracy")]
    known = [read_json(folder / "metrics.json")["test"]["accuracy"] for folder in pair]
    assert accuracy == [f"{value:.3f}" for value in known]
    assert [line.split() for line in rows if line.startswith("cell")] == [["cell", "elman", "gru"]]
    assert run_main("compare", *pair, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found == Comparison.of(pair).to_dict()
    assert [run["settings"]["cell"] for run in found["runs"]] == ["elman", "gru"]


def test_the_same_run_twice_differs_in_nothing(pair: tuple[Path, Path], capsys: Capture) -> None:
    assert run_main("compare", pair[0], pair[0]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "no setting differs"


def test_the_command_in_a_process_of_its_own(pair: tuple[Path, Path], tmp_path: Path) -> None:
    done = run_npnlp("compare", *pair, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    done = run_npnlp("compare", pair[0], "nowhere", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, b"")
    refusal(done.stderr.decode(), "npnlp compare: nowhere: no such file", "the folder of a run")


DAMAGED: list[tuple[str, str | None, tuple[str, ...]]] = [
    ("metrics.json", None, ("metrics.json: no such file", "npnlp train --save-dir")),
    ("metrics.json", "{", ("metrics.json: ",)),
    ("metrics.json", "[1]", ("metrics.json: ", "no table of figures")),
    ("history.csv", None, ("history.csv: no such file",)),
    ("history.csv", "epoch,val_loss\n0,1.0\n", ("history.csv: column val_macro_f1 is missing",)),
    ("history.csv", "epoch,val_loss,val_macro_f1\n", ("history.csv: no epoch in it",)),
    ("history.csv", "epoch,val_loss,val_macro_f1\n0,x,0.1\n", ("column val_loss: not all",)),
    ("history.csv", "", ("history.csv: no table that can be read",)),
    ("history.csv", "\udcff", ("history.csv: no table that can be read",)),
    ("gradient_flow.csv", "epoch,layer\n0,1\n", ("gradient_flow.csv: column lag is missing",)),
]


@pytest.mark.parametrize(("name", "content", "words"), DAMAGED)
def test_what_is_no_run_is_one_line(
    pair: tuple[Path, Path], tmp_path: Path, name: str, content: str | None,
    words: tuple[str, ...], capsys: Capture,
) -> None:  # fmt: skip
    bad = copied(pair[0], tmp_path / "bad")
    (bad / name).unlink()
    if content is not None:
        (bad / name).write_bytes(content.encode("utf-8", "surrogateescape"))
    assert run_main("compare", pair[0], bad) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    refusal(printed.err, "npnlp compare: ", *words)


def test_a_damaged_file_is_read_or_refused(pair: tuple[Path, Path], tmp_path: Path) -> None:
    bad, random = copied(pair[0], tmp_path / "bad"), np.random.default_rng(0)
    refused: list[tuple[Path, str]] = []
    for _ in range(120):
        path = bad / random.choice(["metrics.json", "history.csv", "gradient_flow.csv"])
        whole = path.read_bytes()
        damaged, place = bytearray(whole), int(random.integers(len(whole)))
        if random.integers(2):
            damaged[place] ^= 1 << int(random.integers(8))
        else:
            damaged[place : place + 9] = random.choice([b"", b",", b"\n", b'"', b"-1e999", b"null"])
        path.write_bytes(damaged)
        try:
            found = Comparison.of([pair[1], bad])
            assert len([*lines(found), *found.notes(), *found.to_dict()]) > 10
        except InputError as error:
            refused.append((path, str(error)))
        path.write_bytes(whole)
    assert 20 < len(refused) < 100
    assert all(str(path) in said and said.isprintable() for path, said in refused)


def test_one_run_or_a_folder_of_seeds_is_said(pair: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="1 run to compare; name at least two"):
        Comparison.of(pair[:1])
    copied(pair[0], tmp_path / "many" / "seed-5")
    with pytest.raises(InputError, match=r"several seeds: name one, such as .*seed-5"):
        Comparison.of([pair[0], tmp_path / "many"])


def test_settings_and_figures_of_odd_types_are_no_figures(
    pair: tuple[Path, Path], tmp_path: Path, capsys: Capture
) -> None:
    odd = copied(pair[0], tmp_path / "odd")
    metrics: dict[str, Any] = read_json(odd / "metrics.json")
    metrics |= {"test": [], "timing": {"epochs": "many"}, "model": 3, "data": None}
    (odd / "metrics.json").write_text(json.dumps(metrics), "utf-8")
    assert run_main("compare", pair[0], odd) == 0
    printed = capsys.readouterr()
    assert "epochs" in printed.out
    assert "of different tables" in printed.err
