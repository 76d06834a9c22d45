"""Write the tables of docs/cures.md and its Korean version from kept results.

Run it after experiments/long_term_dependencies.py, whose CSV files are kept in docs/results;
tools/docs_pictures.py draws docs/images from them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from npnlp.files import fill_section, markdown_table
from npnlp.lab.trial import horizons

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs/results"
#: The page in each language, and how its tables say what the results say in English.
PAGES: dict[str, dict[str, str]] = {
    "docs/cures.md": {},
    "docs/cures.ko.md": {
        "adding": "덧셈",
        "first token": "첫 토큰",
        "middle token": "가운데 토큰",
        "temporal order": "시간 순서",
        "task": "과제",
        "variant": "방법",
        "seeds solved": "푼 시드",
        "updates": "갱신 횟수",
        "loss": "손실",
        "loss without memory": "기억이 없을 때의 손실",
        "{} of {}": "{}/{}",
        "at first": "처음",
        "trained": "학습 뒤",
        "{} steps back": "{}단계 앞",
        "gradient left {} steps back": "{}단계 앞에 남은 기울기",
        "largest singular value, {} steps": "가장 큰 특잇값, {}단계",
        "On {task}, tanh remembers {plain} steps: {moved}.": (
            "{task}: tanh는 {plain}단계를 기억한다. {moved}."
        ),
        "{variant} {horizon}": "{variant} {horizon}",
    },
}
LAGS = (10, 50, 90)
FAR = 500
Say = Callable[[str], str]


def speaker(words: dict[str, str]) -> Say:
    """Says in a page's language what a table says in English."""
    return lambda english: words.get(english, english)


def runs() -> pd.DataFrame:
    """The kept runs of the lab."""
    return pd.read_csv(RESULTS / "long_term_dependencies.csv")


def far_of(runs: pd.DataFrame) -> pd.DataFrame:
    """Horizons, rows variants and columns tasks, as text: ``>= T`` where no longer was tried."""
    rows = [{str(k): v for k, v in run.items()} for run in runs.to_dict("records")]
    table = pd.DataFrame(horizons(rows))
    open_ended = table["horizon"] == table["largest"]
    table["text"] = open_ended.map({True: ">= ", False: ""}) + table["horizon"].astype(str)
    tasks, variants = (list(dict.fromkeys(table[name])) for name in ("task", "recipe"))
    grid = table.pivot_table(index="recipe", columns="task", values="text", aggfunc="first")
    return grid.reindex(index=variants, columns=tasks).fillna("")


def cures_horizons(say: Say) -> str:
    """The largest length that most seeds solve, by variant and task."""
    table = far_of(runs())
    names = [say(str(task).replace("_", " ")) for task in table.columns]
    rows = [[f"`{variant}`", *map(str, cells)] for variant, cells in zip(
        table.index, table.to_numpy(), strict=True
    )]  # fmt: skip
    return markdown_table([say("variant"), *names], rows)


def cures_answer(say: Say) -> str:
    """A line a task: how far each variant moves tanh's horizon."""
    lines = []
    for task, far in far_of(runs()).items():
        moved = ", ".join(
            say("{variant} {horizon}").format(variant=variant, horizon=horizon)
            for variant, horizon in far.items()
            if variant != "tanh" and horizon
        )
        sentence = say("On {task}, tanh remembers {plain} steps: {moved}.")
        name = say(str(task).replace("_", " "))
        lines.append("- " + sentence.format(task=name, plain=far["tanh"], moved=moved))
    return "\n".join(lines)


def cures_far(say: Say) -> str:
    """Every variant that was tried at T = 500 and has solved it, with the updates of each seed."""
    far, rows = runs(), []
    for (task, variant), found in far[far["T"] == FAR].groupby(["task", "recipe"], sort=False):
        solved = found["solved"].astype(bool)
        if not solved.any():
            continue
        rows.append([
            say(str(task).replace("_", " ")),
            f"`{variant}`",
            say("{} of {}").format(solved.sum(), len(found)),
            ", ".join(str(steps) for steps in found["steps"][solved]),
            ", ".join(f"{loss:.3f}" for loss in found["loss"][solved]),
            f"{found['baseline'].iloc[0]:.3f}",
        ])  # fmt: skip
    header = ("task", "variant", "seeds solved", "updates", "loss", "loss without memory")
    return markdown_table([*map(say, header)], rows)


def cures_jacobians(say: Say) -> str:
    """The gradient that is left and the largest singular value, before and after training."""
    table, rows = pd.read_csv(RESULTS / "cures_jacobians.csv"), []
    for (variant, when), of_lag in table.groupby(["recipe", "when"], sort=False):
        found = of_lag.set_index("lag")
        rows.append([
            f"`{variant}`",
            say(str(when)),
            *(f"{found[column][lag]:.1e}" for column in ("relative", "largest") for lag in LAGS),
        ])  # fmt: skip
    columns = ("gradient left {} steps back", "largest singular value, {} steps")
    header = [say(column).format(lag) for column in columns for lag in LAGS]
    return markdown_table([say("variant"), "", *header], rows)


SECTIONS = (cures_answer, cures_horizons, cures_far, cures_jacobians)


def main() -> None:
    """Fill every table in, in every language."""
    for page, words in PAGES.items():
        for section in SECTIONS:
            fill_section(ROOT / page, section.__name__, section(speaker(words)))


if __name__ == "__main__":
    main()
