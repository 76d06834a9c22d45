"""``npnlp.train``: from a table, in memory or in a file, to classifiers and their scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from npnlp.backend import get_backend
from npnlp.checks import require_whole
from npnlp.classifier.building import DECIDED, model_settings
from npnlp.classifier.classifier import Classifier
from npnlp.errors import InputError, require_known
from npnlp.estimator.fit import completed
from npnlp.models import ClassifierConfig
from npnlp.runs.run import require_elsewhere
from npnlp.runs.seeds import Work, folder_of, train_seeds
from npnlp.runs.shown import shown
from npnlp.runs.trained import Trained
from npnlp.text import SurnameDataset
from npnlp.text.columns import Columns
from npnlp.training.config import TrainingConfig
from npnlp.training.interrupt import Interrupted

if TYPE_CHECKING:
    import pandas as pd

#: What a message calls a frame.
FRAME = "the table"


def train(
    table: str | Path | pd.DataFrame,
    name: str | None = None,
    label: str | None = None,
    *,
    seeds: int = 1,
    seed: int = 1337,
    split: str | None = None,
    split_by: str | None = None,
    save_dir: str | Path | None = None,
    jobs: int | None = None,
    recipe: str | None = None,
    backend: str = "numpy",
    resume: bool = False,
    overwrite: bool = False,
    progress: bool | None = None,
    **settings: Any,
) -> Trained:
    """Train a classifier with every seed from ``seed`` to ``seed + seeds - 1``, side by side.

    ``table`` is a frame, or a file as ``npnlp train`` reads it; ``name``, ``label`` and ``split``
    are its columns, found by their usual names where they are not given, and ``split_by`` says how
    rows are divided (``npnlp train --split-by``). ``settings`` are fields of
    :class:`ClassifierConfig` and :class:`TrainingConfig`, beside those of a ``recipe``. ``jobs``
    seeds are trained at a time, by default one a core, each in a process of its own
    (:mod:`npnlp.runs.side_by_side`); on a device small models are, without ``jobs``, trained all in
    the same launches (:mod:`npnlp.runs.together`).

    The result has ``figures`` and ``interval("test.accuracy")``, in ``classifiers`` the model of
    each seed, ``history_`` and ``gradient_flow_`` as frames, and ``mistakes()``
    (:class:`npnlp.runs.trained.Trained`); ``failed`` holds the error of a seed that diverged. With
    ``save_dir`` each run has a folder there, ``seed-1337`` and so on, beside ``seeds.json`` and
    ``seeds.csv``; ``resume`` continues those that are not done. How far each seed is, a notebook or
    a terminal shows; ``progress=False`` shows nothing.

    Raises :class:`InputError` for a table or a setting that is not what it has to be, and the error
    of the first seed where all have failed.
    """
    require_whole("seeds", seeds)
    require_whole("seed", seed, 0)
    training, shape = _chosen({"recipe": recipe, **settings})
    with ExitStack() as stack:
        folder = Path(save_dir or stack.enter_context(TemporaryDirectory()))
        dataset = _dataset(table, Columns(name, label, split), split_by, folder, stack)
        work = Work(dataset, training, shape, get_backend(backend).name, resume=resume,
                    overwrite=overwrite)  # fmt: skip
        work.run_of(seed, folder)  # what is wrong for all is said once
        numbers = range(seed, seed + seeds)
        with shown(numbers, training["num_epochs"], progress is not False) as heard:
            found = train_seeds(work, numbers, folder, jobs, heard)
        if found.interrupted:
            raise Interrupted
        if not found.done:
            raise next(iter(found.failed.values()))
        files = {each: folder_of(folder, each) / work.model_file for each in found.done}
        models = {each: Classifier.load(path, get_backend(backend)) for each, path in files.items()}
        return Trained.of(found, models, dataset, folder)


def _chosen(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings of training, and those of the model, from what is given and the defaults."""
    of_training = [field.name for field in fields(TrainingConfig) if field.name != "seed"]
    of_model = [field.name for field in fields(ClassifierConfig) if field.name not in DECIDED]
    known = [*of_training, *of_model, "recipe"]
    for name in given:
        require_known("setting", name, known)
    chosen = completed(dict(given))
    return {name: chosen[name] for name in of_training}, model_settings(chosen)


def _dataset(
    table: Any, columns: Columns, split_by: str | None, folder: Path, stack: ExitStack
) -> SurnameDataset:
    """The table; a frame goes through a file, so that it is read by the same rules."""
    load: Callable[..., SurnameDataset] = SurnameDataset.load_dataset_and_make_vectorizer
    if isinstance(table, str | Path):
        require_elsewhere(Path(table), folder, "", "")
        return load(table, split_by, columns)
    if not hasattr(table, "to_csv"):
        kind = type(table).__name__
        raise InputError(f"table is a {kind}; it has to be a frame, or the path of a file")
    path = Path(stack.enter_context(TemporaryDirectory())) / "table.csv"
    table.to_csv(path, index=False, encoding="utf-8")
    try:
        return load(path, split_by, columns)
    except InputError as error:
        raise InputError(str(error).replace(str(path), FRAME)) from error
