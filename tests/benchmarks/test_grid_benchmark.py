"""benchmarks/against_frameworks.py --grid: all sides agree, what does not fit is said, the map."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from npnlp.backend import get_backend
from npnlp.errors import InputError
from npnlp.files import write_csv


def run(folder: Path, out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(folder / "against_frameworks.py"), "--grid", "--out", str(out)]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)


def test_the_map_is_drawn_from_its_csv(passes: Path, tmp_path: Path) -> None:
    from passes.grid_picture import draw

    squares = [
        {"cell": cell, "pass": name, "B": batch, "T": steps, "H": hidden, "ratio": ratio}
        for cell in ("lstm", "elman")
        for name in ("forward", "forward + backward")
        for batch, steps, hidden, ratio in
        [(1, 19, 64, 0.5), (16, 19, 64, 12.0), (1, 100, 64, 1.2), (16, 100, 128, 1.0)]
    ]  # fmt: skip
    write_csv(tmp_path / "grid.csv", squares)
    draw(tmp_path / "grid.csv", tmp_path / "grid.png")
    whole = (tmp_path / "grid.png").read_bytes()
    assert whole.startswith(b"\x89PNG")
    write_csv(tmp_path / "other.csv", [{**square, "ratio": 1.0} for square in squares])
    draw(tmp_path / "other.csv", tmp_path / "other.png")
    assert (tmp_path / "other.png").read_bytes() != whole


@pytest.mark.peers
@pytest.mark.parametrize(("kind", "inputs"), [("features", 4 * 5 * 100), ("tokens", 4 * 5 * 8)])
def test_a_small_grid_is_measured_and_drawn(
    passes: Path, tmp_path: Path, kind: str, inputs: int
) -> None:
    pytest.importorskip("torch")
    done = run(passes, tmp_path, "--quick", "--input", kind)
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(tmp_path / "grid.csv")
    assert len(table) == 3 * 2 * 2
    assert (table["rounds"] == 3).all()
    assert ((table["ratio_q25"] <= table["ratio"]) & (table["ratio"] <= table["ratio_q75"])).all()
    others = table.columns.intersection(["torch_ms", "jax_ms"])
    assert (table[["npnlp_ms", *others]] > 0).all(axis=None)
    peers = [str(row[f"{row['peer']}_ms"]) for _, row in table.iterrows()]
    assert peers == [str(least) for least in table[others].min(axis=1)]
    gru = table[(table["cell"] == "gru") & (table["B"] == 4)].set_index("pass").loc["forward"]
    operations = 2 * 24 * (inputs + 4 * 4 * 8)
    assert gru["npnlp_gflops"] * gru["npnlp_ms"] == pytest.approx(1e-6 * operations)
    assert (tmp_path / "grid.png").read_bytes().startswith(b"\x89PNG")
    last = done.stdout.splitlines()[-4:]
    least = table.loc[table["pass"] == "forward + backward", "ratio"]
    assert last[0].startswith("forward + backward, all cells: geometric mean ")
    assert f"{np.exp(np.log(least).mean()):.2f}, least {least.min():.2f} at" in last[0]
    assert [line.split(", ")[1].split(":")[0] for line in last[1:]] == ["elman", "gru", "lstm"]


@pytest.mark.peers
def test_a_square_that_does_not_fit_is_said(passes: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    sizes = ["--batch-sizes", "1000", "--lengths", "1000000", "--hidden-sizes", "512"]
    done = run(passes, tmp_path / "out", "--cells", "lstm", "--input", "features", *sizes)
    assert done.returncode == 2
    assert "lstm V=0 B=1000 T=1000000 H=512 D=100 is left out: it takes some" in done.stdout
    assert done.stderr.startswith("against_frameworks.py: no square fits")
    assert not (tmp_path / "out").exists()


@pytest.mark.peers
@pytest.mark.parametrize("cell", ["elman", "gru", "lstm"])
@pytest.mark.parametrize("vocabulary", [0, 7, 50])
def test_all_sides_agree_and_a_difference_is_refused(
    passes: Path, cell: str, vocabulary: int
) -> None:
    pytest.importorskip("torch")
    from passes.grid import sides_of
    from passes.grid_sides import OURS, Square, require_agreement
    from passes.jax_layers import WITHOUT_JAX

    square = Square(cell, batch=3, steps=5, hidden=8, features=6, vocabulary=vocabulary)
    sides = sides_of(square, 1, get_backend("numpy"))
    assert list(sides) == ["npnlp", "torch", *([] if WITHOUT_JAX else ["jax"])]
    results = {library: side.results() for library, side in sides.items()}
    names = {f"{kind}_{of}_l0" for kind in ("weight", "bias") for of in ("ih", "hh")}
    assert all(set(found) == {"states", "x", *names} for found in results.values())
    assert require_agreement(square, results) < 1e-5
    for library in list(results)[1:]:
        theirs = results[library]
        for name in theirs:
            if theirs[name].any():
                wrong: dict[str, Any] = {**theirs, name: theirs[name] * 1.01}
                with pytest.raises(InputError, match=f"{name} differs from {library}'s"):
                    require_agreement(square, {**results, library: wrong})
    longer = replace(square, steps=6)
    other = sides_of(longer, 1, get_backend("numpy"))[OURS].results()
    with pytest.raises(ValueError, match="reshape"):
        require_agreement(square, {**results, OURS: other})


@pytest.mark.peers
def test_time_ends_the_rounds_but_never_before_the_third(passes: Path) -> None:
    pytest.importorskip("torch")
    from passes.grid import measure
    from passes.grid_sides import PASSES, Square

    square = Square("elman", batch=1, steps=3, hidden=4, features=2)
    for budget, rounds, expected in [(0.0, 9, 3), (60.0, 4, 4), (60.0, 1, 3)]:
        rows = list(measure(square, 0, 1, rounds, budget, get_backend("numpy")))
        assert [row["pass"] for row in rows] == list(PASSES)
        assert {row["rounds"] for row in rows} == {expected}
        assert {row["npnlp_threads"] for row in rows} == {1}
