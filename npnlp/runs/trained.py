"""What :func:`npnlp.train` gives: models with their figures, as tables to look at in a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from npnlp.classifier.classifier import Classifier
from npnlp.errors import InputError, require_known
from npnlp.runs.seeds import Seeds, folder_of
from npnlp.text import SPLITS, SurnameDataset

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, repr=False, eq=False, kw_only=True)
class Trained(Seeds):
    """What came of every seed, its models, and what to look at.

    ``classifiers`` are the models by seed, and ``classifier`` is one of them. ``history_`` has a
    row an epoch with the columns of ``history.csv``; ``gradient_flow_`` a row for each epoch, layer
    and lag with those of ``gradient_flow.csv``; of several seeds both begin with a column ``seed``.
    ``dataset`` holds the rows as they were divided.
    """

    dataset: SurnameDataset
    history_: pd.DataFrame
    gradient_flow_: pd.DataFrame

    @classmethod
    def of(
        cls, found: Seeds, classifiers: dict[int, Classifier], dataset: SurnameDataset, folder: Path
    ) -> Self:
        """With the tables that the runs of the seeds in ``done`` have left in ``folder``."""
        folders = {seed: folder_of(folder, seed) for seed in found.done}
        return cls(
            found.done, found.failed, found.interrupted, classifiers, dataset=dataset,
            history_=_tables(folders, "history.csv"),
            gradient_flow_=_tables(folders, "gradient_flow.csv"),
        )  # fmt: skip

    @property
    def classifier(self) -> Classifier:
        """The model; of several, that with the lowest loss on the rows held out for validation."""
        return self.classifiers[self._best_seed]

    @property
    def _best_seed(self) -> int:
        return min(self.done, key=lambda seed: self.done[seed]["val"]["loss"])

    def predictions(self, split: str = "test", seed: int | None = None) -> pd.DataFrame:
        """A row for each name of a split: ``name``, ``label``, ``predicted``, ``probability``.

        They are those of ``classifier``, or of the model of ``seed``. The index counts the rows of
        the table from 0: ``frame.iloc[predictions.index]`` has all of its columns. Raises
        :class:`InputError` for a split or a seed that there is not.
        """
        import pandas as pd

        require_known("split", split, SPLITS)
        if seed is not None and seed not in self.classifiers:
            known = ", ".join(map(str, self.classifiers))
            raise InputError(f"seed is {seed}; models are there of the seeds {known}")
        classifier = self.classifiers[self._best_seed if seed is None else seed]
        places = self.dataset.rows.places(split)
        rows = self.dataset.rows.take(places)
        names, labels = list(rows.names), classifier.vectorizer.nationality_vocab.tokens
        classes, probabilities = classifier.best(names)
        return pd.DataFrame(
            {
                "name": names,
                "label": list(rows.labels),
                "predicted": [labels[place] for place in classes[:, 0].tolist()],
                "probability": probabilities[:, 0].astype(np.float64),
            },
            index=places,
        )

    def mistakes(self, split: str = "test", seed: int | None = None) -> pd.DataFrame:
        """Those of :meth:`predictions` that are wrong, the ones that the model was surest of first.

        Raises :class:`InputError` as that does.
        """
        found = self.predictions(split, seed)
        wrong = found[found["predicted"] != found["label"]]
        return wrong.sort_values("probability", ascending=False, kind="stable")

    def _repr_html_(self) -> str:
        """The scores of each split as a table, for a notebook."""
        header, *rows = self.scores()
        epochs = [int(found["timing"]["epochs"]) for found in self.done.values()]
        said = [f"{len(self.done)} model{'s' if len(self.done) > 1 else ''}", _range(epochs)]
        if len(self.done) > 1:
            said.append("mean ± half of the 95 % interval")
        said += [f"seed {seed} failed: {error}" for seed, error in self.failed.items()]
        lines = [_line(header, "th"), *(_line(row, "td") for row in rows)]
        caption = f"<caption>{escape('; '.join(said))}</caption>"
        return f"<table>{caption}\n" + "\n".join(lines) + "\n</table>"


def _line(cells: Sequence[str], tag: str) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"


def _range(epochs: Sequence[int]) -> str:
    low, high = min(epochs), max(epochs)
    return f"{low} epochs" if low == high else f"{low} to {high} epochs"


def _tables(folders: dict[int, Path], name: str) -> pd.DataFrame:
    """The tables of all runs, one below the other; of several, behind a column ``seed``."""
    import pandas as pd

    tables = {seed: pd.read_csv(folder / name) for seed, folder in folders.items()}
    if len(tables) > 1:
        for seed, table in tables.items():
            table.insert(0, "seed", seed)
    return pd.concat(tables.values(), ignore_index=True)
