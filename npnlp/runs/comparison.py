"""Runs side by side: their figures, the settings in which they differ, and what can be drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from npnlp.errors import InputError, short
from npnlp.files.nearest import no_such_file
from npnlp.files.plain_json import parse_json
from npnlp.text.content import read_bytes

#: Figures of ``metrics.json`` by the names of a table.
FIGURES = {
    "test accuracy": ("test", "accuracy"),
    "test balanced accuracy": ("test", "balanced_accuracy"),
    "test macro F1": ("test", "macro_f1"),
    "test loss": ("test", "loss"),
    "validation loss": ("val", "loss"),
    "epochs": ("timing", "epochs"),
    "seconds of training": ("timing", "train_seconds"),
}
#: Columns that are drawn.
HISTORY = ("epoch", "val_loss", "val_macro_f1")
FLOW = ("epoch", "layer", "lag", "hidden_grad_mean")
#: ``metrics.json`` has at most this many bytes; it has some thousands.
LARGEST_METRICS = 2**24
#: How far back the gradient is given as a figure.
LAG = 5


@dataclass(frozen=True)
class Seen:
    """A run as its folder tells it; ``name`` is what a picture and a table call it."""

    name: str
    folder: Path
    metrics: dict[str, Any]
    history: pd.DataFrame
    flow: pd.DataFrame

    @property
    def cell(self) -> str:
        """Its cell; empty where the run does not say."""
        return str(self.settings.get("cell", ""))

    @property
    def settings(self) -> dict[str, Any]:
        """Those of the model and of training, and what computed."""
        found: dict[str, Any] = {}
        for part in ("model", "training"):
            found |= _part(self.metrics, part)
        computed = _part(self.metrics, "environment")
        return found | {name: computed[name] for name in ("backend", "npnlp") if name in computed}

    def figure(self, *path: str) -> float | None:
        """A number of ``metrics.json``; None where there is none."""
        found: Any = self.metrics
        for name in path:
            found = found.get(name) if isinstance(found, dict) else None
        return found if isinstance(found, int | float) and not isinstance(found, bool) else None

    def gradient(self, last: bool) -> pd.DataFrame:
        """What of the last step's gradient is left by lag, in the first or the last epoch.

        Columns ``lag`` and ``left``; of several layers, the last one that reads forward. Without
        rows where no gradient was recorded.
        """
        layers = [name for name in self.flow["layer"].unique() if not str(name).endswith("reverse")]
        rows = self.flow[self.flow["layer"] == layers[-1]] if layers else self.flow
        epochs = rows["epoch"]
        rows = rows[epochs == (epochs.max() if last else epochs.min())].sort_values("lag")
        norms = rows["hidden_grad_mean"].to_numpy(dtype=np.float64)
        with np.errstate(all="ignore"):
            left = norms / norms[0] if len(norms) and norms[0] > 0 else np.full(len(norms), np.nan)
        return pd.DataFrame({"lag": rows["lag"].to_numpy(), "left": left})

    def left_at(self, lag: int, last: bool) -> float | None:
        """One value of :meth:`gradient`; None where there is none."""
        found = self.gradient(last)
        values = found["left"][found["lag"] == lag].dropna()
        return float(values.iloc[0]) if len(values) else None


@dataclass(frozen=True)
class Comparison:
    """Two or more runs, in the order in which they were named."""

    runs: tuple[Seen, ...]

    @classmethod
    def of(cls, folders: Sequence[str | Path]) -> Comparison:
        """Read the runs; raises :class:`InputError` for fewer than two, or one that is none."""
        if len(folders) < 2:
            raise InputError(f"{len(folders)} run to compare; name at least two folders")
        places = [Path(folder) for folder in folders]
        return cls(tuple(map(_read, places, _names(places))))

    def figures(self) -> dict[str, list[float | None]]:
        """By name, the figure of each run; None where a run has none."""
        found = {name: [run.figure(*path) for run in self.runs] for name, path in FIGURES.items()}
        best = [run.figure("timing", "best_epoch") for run in self.runs]
        found["best epoch"] = [None if value is None else value + 1 for value in best]
        for name, last in (("first", False), ("last", True)):
            title = f"gradient left {LAG} steps back, {name} epoch"
            found[title] = [run.left_at(LAG, last) for run in self.runs]
        return found

    def differences(self) -> dict[str, list[Any]]:
        """The settings that are not the same in all runs; None where a run has none such."""
        return _differing([run.settings for run in self.runs])

    def notes(self) -> list[str]:
        """What a reader has to know before the figures are compared."""
        tables = _differing([_part(run.metrics, "data") for run in self.runs])
        if not tables:
            return []
        names = ", ".join(list(tables)[:3]) + (", ..." if len(tables) > 3 else "")
        return [
            f"the runs are of different tables or splits ({names} differ): their scores are of "
            "different names"
        ]

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        figures, differences = self.figures(), self.differences()
        return {
            "runs": [
                {
                    "run": run.name, "folder": str(run.folder),
                    "figures": {name: values[place] for name, values in figures.items()},
                    "settings": {name: values[place] for name, values in differences.items()},
                }
                for place, run in enumerate(self.runs)
            ],
            "notes": self.notes(),
        }  # fmt: skip


def _part(metrics: dict[str, Any], name: str) -> dict[str, Any]:
    found = metrics.get(name)
    return found if isinstance(found, dict) else {}


def _differing(tables: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    names = list(dict.fromkeys(name for table in tables for name in table))
    rows = {name: [table.get(name) for table in tables] for name in names}
    return {name: row for name, row in rows.items() if any(value != row[0] for value in row)}


def _names(places: Sequence[Path]) -> list[str]:
    """The folders' own names; all paths as they are given where two names are the same."""
    short_names = [place.resolve().name for place in places]
    return short_names if len(set(short_names)) == len(places) else list(map(str, places))


def _read(folder: Path, name: str) -> Seen:
    if not folder.is_dir():
        raise InputError(f"{folder}: {no_such_file(folder)}; name the folder of a run")
    path = folder / "metrics.json"
    if not path.exists():
        say = f"a finished run has one: npnlp train --save-dir {folder}"
        if several := sorted(folder.glob("seed-*")):
            say = f"the folder holds several seeds: name one, such as {several[0]}"
        raise InputError(f"{path}: no such file; {say}")
    try:
        metrics = parse_json(read_bytes(path, LARGEST_METRICS))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    if not isinstance(metrics, dict):
        raise InputError(f"{path}: {short(metrics)} is no table of figures")
    history = _table(folder / "history.csv", HISTORY)
    if history.empty:
        raise InputError(f"{folder / 'history.csv'}: no epoch in it; train the run again")
    return Seen(name, folder, metrics, history, _table(folder / "gradient_flow.csv", FLOW))


def _table(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """These columns of a CSV file; raises :class:`InputError`, naming the file and the column."""
    try:
        found = pd.read_csv(path, usecols=lambda name: name in columns, encoding="utf-8")
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; a finished run has one") from error
    except (ValueError, pd.errors.ParserError) as error:
        raise InputError(f"{path}: no table that can be read ({short(str(error))})") from error
    for name in columns:
        if name not in found:
            raise InputError(f"{path}: column {name} is missing; train the run again")
        if name != "layer" and len(found) and found[name].dtype.kind not in "if":
            raise InputError(f"{path}: column {name}: not all of it is numbers")
    return found
