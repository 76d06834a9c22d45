"""Write the tables and examples of docs/probabilities.md from kept results and the package's model.

Run it after experiments/probabilities.py, whose CSV is kept in docs/results as probabilities.csv
(the reference table) and probabilities_own_table.csv; rows of other recipes are added to these
files. The examples are the output of the commands that they show, by the model that comes with
npnlp.
"""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import tempfile
from pathlib import Path

import pandas as pd

from npnlp.cli import main as npnlp
from npnlp.files import fill_section, markdown_table

ROOT = Path(__file__).resolve().parents[1]
PAGE = "docs/probabilities.md"
TABLES = {"reference": "probabilities", "npnlp's": "probabilities_own_table"}
NAMES = "Nakamoto Kowalczyk Smith Ng"
#: Files that the examples read.
GIVEN = {
    "names.txt": "Nakamoto\nTanaka\nSuzuki\nKowalczyk\nSato\nNg\n" * 50,
    "shares.csv": "nationality,share\nEnglish,60\nScottish,15\nIrish,10\nGerman,5\n"
    + "".join(f"{label},1\n" for label in (
        "Arabic", "Chinese", "Czech", "Dutch", "French", "Greek", "Italian", "Japanese", "Korean",
        "Polish", "Portuguese", "Russian", "Spanish", "Vietnamese")),
}  # fmt: skip
EXAMPLES = {
    "answer_examples": (
        f"npnlp predict {NAMES}",
        f"npnlp predict {NAMES} --min-probability 0.5",
        f"npnlp predict {NAMES} --precision 0.95",
    ),
    "set_examples": (
        f"npnlp predict {NAMES} --sets 0.9",
        f"npnlp predict {NAMES} --sets 0.9 --by-class",
    ),
    "unlike_examples": ("npnlp predict Nakamoto 山田 PlayStation Xqzvkj --unlike blank",),
    "prior_examples": ("npnlp predict Smith Ng --prior shares.csv",),
    "estimate_examples": ("npnlp predict --input names.txt --prior estimate | head -5",),
}


def mean(runs: pd.DataFrame, name: str, digits: int = 3) -> str:
    """The mean of the runs that have the number, and their range where there are several."""
    values = runs[name].dropna()
    if not len(values):
        return "–"
    text = f"{values.mean():,.{digits}f}"
    if len(values) > 1:
        text += f" ({values.min():,.{digits}f} to {values.max():,.{digits}f})"
    return text


def by_recipe() -> list[tuple[list[str], pd.DataFrame]]:
    """The runs of each recipe on each table, and what the first cells of their row say."""
    return [
        ([table, f"`{recipe}`"], runs)
        for table, name in TABLES.items()
        for recipe, runs in pd.read_csv(ROOT / f"docs/results/{name}.csv").groupby(
            "recipe", sort=False)
    ]  # fmt: skip


def probabilities_scores() -> str:
    """What was trained: accuracy, macro F1, cost."""
    header = ["table", "recipe", "seeds", "accuracy", "macro F1", "training", "file"]
    return markdown_table(header, [
        [*head, str(len(runs)), mean(runs, "accuracy"), mean(runs, "macro_f1"),
         f"{runs['train_seconds'].mean():.1f} s", f"{runs['model_bytes'].mean() / 1000:,.0f} kB"]
        for head, runs in by_recipe()
    ])  # fmt: skip


def probabilities_calibration() -> str:
    """The temperature, and each score before it and after."""
    scores = {"log_loss": "log loss", "brier": "Brier score", "calibration_error": "error"}
    header = ["table", "recipe", "temperature", *scores.values(), "error by chance"]
    return markdown_table(header, [
        [*head, mean(runs, "temperature"),
         *(f"{runs[f'{name}_before'].mean():.4f} → {runs[name].mean():.4f}" for name in scores),
         f"{runs['calibration_error_by_chance'].mean():.4f}"]
        for head, runs in by_recipe()
    ])  # fmt: skip


def probabilities_precision() -> str:
    """What is answered, and how much of that is right."""
    columns = {"threshold": "probability at least", "answered": "answered", "right": "right"}
    return markdown_table(["table", "recipe", "`--precision`", *columns.values()], [
        [*head, asked, *(mean(runs, f"precision_{asked}_{name}") for name in columns)]
        for head, runs in by_recipe()
        for asked in ("0.9", "0.95", "0.99")
    ])  # fmt: skip


def probabilities_sets() -> str:
    """How many sets hold the truth, and how large they are."""
    header = ["table", "recipe", "`--sets`", "hold the truth", "mean size"]
    return markdown_table(header, [
        [*head, level, mean(runs, f"sets_{level}_covered"), mean(runs, f"sets_{level}_size", 2)]
        for head, runs in by_recipe()
        for level in ("0.8", "0.9", "0.95")
    ])  # fmt: skip


def probabilities_populations() -> str:
    """Accuracy in other populations, by what is known of them."""
    columns = ("as_it_is", "known", "estimated", "difference", "worst")
    header = ["table", "recipe", "as it is", "shares known", "shares estimated",
              "estimated less known", "its worst"]  # fmt: skip
    return markdown_table(header, [
        [*head, *(mean(runs, f"prior_{name}") for name in columns[:3]),
         f"{runs['prior_difference'].mean():+.4f}", f"{runs['prior_worst'].min():+.4f}"]
        for head, runs in by_recipe()
    ])  # fmt: skip


def probabilities_unlike() -> str:
    """What is unlike the names of training."""
    columns = ("random_area", "others_area", "names_unlike", "random_unlike", "others_unlike")
    header = ["table", "recipe", "area: random", "area: companies", "unlike: names", "random",
              "companies"]  # fmt: skip
    return markdown_table(header, [
        [*head, *(f"{runs[name].mean():.3f}" for name in columns)] for head, runs in by_recipe()
    ])  # fmt: skip


SECTIONS = (
    probabilities_scores, probabilities_calibration, probabilities_precision, probabilities_sets,
    probabilities_populations, probabilities_unlike,
)  # fmt: skip


def example(command: str) -> str:
    """A command and what it prints: first its output, then its notes."""
    asked, _, head = command.partition(" | head -")
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        npnlp([*shlex.split(asked)[1:], "--save-dir", str(ROOT / "npnlp/data")])
    lines = out.getvalue().splitlines()[: int(head) if head else None]
    return "\n".join([f"$ {command}", *map(str.rstrip, [*lines, *err.getvalue().splitlines()])])


def examples(name: str) -> str:
    """The block of the examples of this name."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        for file, text in GIVEN.items():
            Path(folder, file).write_text(text, encoding="utf-8")
        os.chdir(folder)
        try:
            found = [example(command) for command in EXAMPLES[name]]
        finally:
            os.chdir(before)
    return "\n".join(["```text", *found, "```"])


def main() -> None:
    """Fill every table and example in."""
    for section in SECTIONS:
        fill_section(ROOT / PAGE, section.__name__, section())
    for name in EXAMPLES:
        fill_section(ROOT / PAGE, name, examples(name))


if __name__ == "__main__":
    main()
