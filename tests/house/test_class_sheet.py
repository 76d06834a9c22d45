"""What the class sheet tells a class to run does what it says they will see."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.support.tables import environment, read_json

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / f"docs/class-sheet{end}" for end in (".md", ".ko.md")]
SHEETS = [page.read_text(encoding="utf-8") for page in PAGES]


def blocks(sheet: str, language: str) -> list[list[str]]:
    found = re.findall(rf"```{language}\n(.*?)```", sheet, flags=re.DOTALL)
    return [str(block).splitlines() for block in found]


EXPERIMENTS = blocks(SHEETS[0], "sh")


def run(line: str, folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """A command of the sheet in a folder, with the scripts that are here."""
    program, *rest = shlex.split(line, comments=True)
    known = {"npnlp": ["-m", "npnlp"], "python": []}[program]
    arguments = [str(ROOT / word) if word.endswith(".py") else word for word in rest]
    return subprocess.run(
        [sys.executable, *known, *arguments, *more], capture_output=True, text=True, check=False,
        cwd=folder, env=environment(PYTHONPATH=str(ROOT)), timeout=900,
    )  # fmt: skip


def test_both_languages_have_the_same_commands_outputs_and_numbers() -> None:
    english, korean = SHEETS
    for language in ("sh", "text"):
        assert blocks(english, language) == blocks(korean, language)
    code = [Counter(re.findall(r"`[^`\n]+`", sheet)) for sheet in SHEETS]
    assert code[0] == code[1]
    headings = [re.findall(r"^#+ (?:\d\.)?", sheet, flags=re.MULTILINE) for sheet in SHEETS]
    assert headings[0] == headings[1]
    assert len(re.findall("[가-힣]", korean)) > 800


def test_every_command_has_its_time_and_every_experiment_less_than_two_minutes() -> None:
    assert len(EXPERIMENTS) == 3
    for lines in EXPERIMENTS:
        times = [re.search(r"  # (\d+) s$", line) for line in lines]
        assert all(times)
        assert sum(int(found[1]) for found in times if found) < 120


def test_every_question_has_an_answer() -> None:
    for sheet in SHEETS:
        *_, questions, answers, _ = re.split(r"^## .*$", sheet, flags=re.MULTILINE)
        asked, answered = (
            re.findall(r"^(\d)\. ", part, re.MULTILINE) for part in (questions, answers)
        )
        assert asked == answered
        assert len(asked) == 6


def test_a_product_of_numbers(tmp_path: Path) -> None:
    (command,) = EXPERIMENTS[0]
    done = run(command, tmp_path)
    assert done.returncode == 0, done.stderr
    (shown,) = blocks(SHEETS[0], "text")
    assert set(shown) <= set(done.stdout.splitlines())
    assert (tmp_path / "out/chain_rule/chain_rule_products.png").exists()


def test_watch_it_vanish(tmp_path: Path) -> None:
    """With fewer epochs: the first one is the same, and the rest is already mended by then."""
    *train, compare = EXPERIMENTS[1]
    for command in train:
        done = run(command, tmp_path, "--num-epochs", "3")
        assert done.returncode == 0, done.stderr
        assert "7,439 train" in done.stdout
    done = run(compare, tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs/both.png").exists()
    rows = dict(re.findall(r"^(gradient left .*?epoch) +(.*)$", done.stdout, flags=re.MULTILINE))
    first, last = (
        [float(cell) for cell in rows[f"gradient left 5 steps back, {when} epoch"].split()]
        for when in ("first", "last")
    )
    assert first[0] < 0.05 < first[1]
    assert all(after > 2 * before for before, after in zip(first, last, strict=True))
    losses = pd.read_csv(tmp_path / "runs/elman/history.csv")["train_loss"]
    assert losses.is_monotonic_decreasing
    flow = pd.read_csv(tmp_path / "runs/elman/gradient_flow.csv").groupby("epoch").mean(
        numeric_only=True
    )  # fmt: skip
    assert flow["sigma_max"].iloc[-1] > flow["sigma_max"].iloc[0]
    assert flow["mean_slope"].iloc[-1] < flow["mean_slope"].iloc[0]


def test_make_it_explode_and_find_the_place(tmp_path: Path) -> None:
    broken, replay, clipped, tanh = EXPERIMENTS[2]
    done = run(broken, tmp_path)
    assert done.returncode == 1
    assert re.fullmatch(r"npnlp train: epoch 1, batch \d+: .*; npnlp replay .*\n", done.stderr)
    done = run(replay, tmp_path)
    assert done.returncode == 1
    largest = dict(re.findall(r"^(\w+ +\w+) +([\d.]+e.\d+)", done.stdout, flags=re.MULTILINE))
    assert float(largest["weight         emb"]) < 1e6 < float(largest["activation     rnn"])
    accuracies = {}
    for command, name in ((clipped, "clipped"), (tanh, "tanh")):
        done = run(command, tmp_path)
        assert done.returncode == 0, done.stderr
        found = read_json(tmp_path / "runs" / name / "metrics.json")
        always = re.search(r"^ +always .* ([\d.]+)% accuracy on test", done.stdout, re.MULTILINE)
        assert always
        accuracies[name] = found["test"]["accuracy"] / (float(always[1]) / 100)
    assert accuracies["clipped"] > 2
    assert accuracies["tanh"] == pytest.approx(1, abs=0.3)
    assert np.isfinite(accuracies["clipped"])
