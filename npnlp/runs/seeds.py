"""One training over several seeds, side by side or, on a device, together in the same launches.

A folder each, and their mean with an interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from npnlp.backend import Backend, get_backend
from npnlp.classifier.classifier import Classifier
from npnlp.errors import InputError
from npnlp.files import write_json, write_table
from npnlp.files.plain_json import parse_json
from npnlp.runs.intervals import t_interval
from npnlp.runs.report import write_report
from npnlp.runs.run import Run
from npnlp.runs.side_by_side import Place, side_by_side
from npnlp.runs.together import BesideDevice, train_together
from npnlp.text import SurnameDataset
from npnlp.training.alike import no_room, obstacle
from npnlp.training.config import TrainingConfig
from npnlp.training.interrupt import Interrupted

#: Parts of ``metrics.json`` whose numbers are measured; the others are given.
MEASURED = ("train", "val", "test", "timing", "temperature")
#: What the files say of the interval.
KIND = "95 % of the mean, Student's t"


@dataclass(frozen=True)
class Work:
    """What every seed trains on, and how; ``after`` is called with the folder of a finished run."""

    dataset: SurnameDataset
    training: Mapping[str, Any]
    shape: Mapping[str, Any]
    backend: str = "numpy"
    model_file: str = "model.safetensors"
    vectorizer_file: str = "vectorizer.json"
    resume: bool = False
    overwrite: bool = False
    after: Callable[[Path], Any] | None = None

    def run_of(self, seed: int, save_dir: Path, backend: Backend | None = None) -> Run:
        """The run of one seed; raises :class:`InputError` for settings that are none."""
        config = TrainingConfig(**{**self.training, "seed": seed})
        return Run.make(
            self.dataset, config, dict(self.shape), backend or get_backend(self.backend),
            folder_of(save_dir, seed), self.model_file, self.vectorizer_file,
        )  # fmt: skip

    def begin(self, run: Run) -> bool:
        """Resume ``run``, or make its folder ready; whether it is done, with its report."""
        if self.resume and run.resume():
            epochs = metrics_of(run.save_dir).get("timing", {}).get("epochs")
            return run.trainer.finished and epochs == len(run.trainer.progress.history)
        if self.overwrite:
            run.remove_derived()
        else:
            run.require_room()
        return False


@dataclass(frozen=True)
class Shown:
    """Tells the parent of every epoch, and asks it at every batch whether to go on."""

    place: Place

    def batch(self) -> None:
        """A batch is done."""
        self.place.check()

    def epoch(self, row: Mapping[str, float]) -> None:
        """An epoch is done; ``row`` is that of its history."""
        self.place.note(dict(row))


def folder_of(save_dir: Path, seed: int) -> Path:
    """Where the run of one seed is."""
    return save_dir / f"seed-{seed}"


def train_one(work: Work, seed: int, save_dir: Path, place: Place) -> dict[str, Any]:
    """Train, evaluate and report as ``npnlp train --seed SEED`` does; what ``metrics.json`` holds.

    With ``resume`` a run that is done is left as it is.
    """
    run = work.run_of(seed, save_dir)
    with run.lock:
        if work.begin(run):
            return metrics_of(run.save_dir)
        run.train(shown=Shown(place))
        write_report(run, run.evaluate())
    if work.after:
        work.after(run.save_dir)
    return metrics_of(run.save_dir)


def metrics_of(folder: Path) -> dict[str, Any]:
    """``metrics.json``; nothing where there is none that can be read."""
    try:
        found = parse_json((folder / "metrics.json").read_bytes())
    except (OSError, InputError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


@dataclass(frozen=True, repr=False)
class Seeds:
    """What came of every seed: the figures of those done, and why the others are not.

    ``classifiers`` are the models, where they have been loaded.
    """

    done: dict[int, dict[str, Any]]
    failed: dict[int, Exception]
    interrupted: list[int]
    classifiers: dict[int, Classifier] = field(default_factory=dict)

    def __repr__(self) -> str:
        scores = ""
        if self.done:
            mean, low, high = self.interval("test.accuracy")
            between = "" if math.isnan(low) else f" ({low:.4f} to {high:.4f})"
            scores = f", accuracy {mean:.4f}{between} on test"
        return f"<{type(self).__name__}: {len(self.done)} done, {len(self.failed)} failed{scores}>"

    @property
    def figures(self) -> dict[str, list[float]]:
        """Every measured number by its name, such as ``test.accuracy``: one of each seed done."""
        each = [dict(leaves(found)) for found in self.done.values()]
        return {
            name: [numbers[name] for numbers in each]
            for name in (each[0] if each else ())
            if all(name in numbers for numbers in each)
        }

    def interval(self, name: str) -> tuple[float, float, float]:
        """Mean and ends of the 95 % interval (Student's t) of a figure; NaN ends of one seed."""
        return t_interval(self.figures[name])

    def write(self, save_dir: Path) -> list[Path]:
        """Write ``seeds.json`` and ``seeds.csv``; the paths."""
        rows = {name: (*t_interval(values), *values) for name, values in self.figures.items()}
        paths = [save_dir / "seeds.json", save_dir / "seeds.csv"]
        write_json(paths[0], {
            "seeds": list(self.done),
            "failed": {str(seed): str(error) for seed, error in self.failed.items()},
            "interrupted": self.interrupted,
            "interval": KIND,
            "figures": {
                name: dict(zip(("mean", "low", "high"), row, strict=False)) | {"values": row[3:]}
                for name, row in rows.items()
            },
        })  # fmt: skip
        header = ["figure", "mean", "low", "high", *(f"seed {seed}" for seed in self.done)]
        write_table(paths[1], header, [[name, *row] for name, row in rows.items()])
        return paths

    def scores(self) -> list[list[str]]:
        """A header, and for each split its name and its scores: mean and half of the interval."""
        columns = {"loss": "loss", "accuracy": "accuracy", "balanced_accuracy": "balanced",
                   "macro_f1": "macro F1"}  # fmt: skip
        rows = [["split", *columns.values()]]
        for split in ("train", "val", "test"):
            found = [self.interval(f"{split}.{name}") for name in columns]
            cells = (
                f"{mean:.4f}" if math.isnan(high) else f"{mean:.4f} ± {high - mean:.4f}"
                for mean, _, high in found
            )
            rows.append([split, *cells])
        return rows

    def table(self) -> list[str]:
        """:meth:`scores` as lines."""
        return [f"{split:<6}" + "".join(f"{cell:>20}" for cell in cells)
                for split, *cells in self.scores()]  # fmt: skip


def leaves(metrics: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The measured numbers of a ``metrics.json``, with their names."""
    for part in MEASURED:
        value = metrics.get(part)
        named = value.items() if isinstance(value, Mapping) else [("", value)]
        for name, number in named:
            if isinstance(number, int | float) and not isinstance(number, bool):
                yield f"{part}.{name}".rstrip("."), float(number)


@dataclass(frozen=True)
class Way:
    """How seeds are trained: all in the same launches of ``device``, or, without, side by side.

    ``why`` says, of a backend with a device, why they are not together.
    """

    device: Backend | None = None
    why: str = ""

    @classmethod
    def of(cls, work: Work, seeds: Sequence[int], save_dir: Path, jobs: int | None) -> Self:
        """Together where the backend has a device, and nothing speaks against it."""
        if work.backend != "cupy" or len(seeds) == 1:
            return cls()
        if jobs is not None:
            return cls(why="the number of jobs is given")
        device = get_backend(work.backend)
        trainer = work.run_of(seeds[0], save_dir, BesideDevice(device)).trainer
        why = obstacle(trainer) or no_room(trainer, len(seeds), device.memory())
        return cls(None, why) if why else cls(device)


def train_seeds(
    work: Work, seeds: Sequence[int], save_dir: Path, jobs: int | None = None,
    heard: Callable[[int, str, Any], None] = lambda seed, kind, value: None,
    way: Way | None = None,
) -> Seeds:  # fmt: skip
    """Train every seed in a folder of its own, and write the summary.

    ``jobs`` are trained at a time, or all together where that goes: ``way``, by default
    :meth:`Way.of`. ``heard`` is called with a seed, and ``"note"`` with a row of its history, or
    ``"done"`` with what :func:`train_one` gave, or an error.
    """
    device = (way or Way.of(work, seeds, save_dir, jobs)).device
    by_seed: dict[int, Any] = {}
    if device is not None:
        by_seed = _together(work, seeds, save_dir, device, heard)
        # What is left, to evaluate and to report, takes a core of the host for each seed.
        work = replace(work, backend="numpy", resume=True, overwrite=False)
    left = [seed for seed in seeds if seed not in by_seed]
    results = side_by_side(
        train_one, [(work, seed, save_dir) for seed in left], jobs,
        lambda number, kind, value: heard(left[number], kind, value),
        work.backend if device is None else device.name,
    )  # fmt: skip
    by_seed |= dict(zip(left, results, strict=True))
    found = Seeds(
        {seed: by_seed[seed] for seed in seeds if isinstance(by_seed[seed], dict)},
        {seed: by_seed[seed] for seed in seeds if isinstance(by_seed[seed], Exception)},
        [seed for seed in seeds if isinstance(by_seed[seed], Interrupted)],
    )
    if save_dir.is_dir():
        found.write(save_dir)
    return found


def _together(
    work: Work, seeds: Sequence[int], save_dir: Path, device: Backend,
    heard: Callable[[int, str, Any], None],
) -> dict[int, Any]:  # fmt: skip
    """Train all seeds on ``device``; what came of those of which nothing is left to do."""
    ended: dict[int, Any] = {}
    runs: dict[int, Run] = {}
    with ExitStack() as locks:
        for seed in seeds:
            try:
                run = work.run_of(seed, save_dir, BesideDevice(device))
                locks.enter_context(run.lock)
                if work.begin(run):
                    ended[seed] = metrics_of(run.save_dir)
                elif not run.trainer.finished:
                    runs[seed] = run
            except (InputError, OSError) as error:
                ended[seed] = error
        ended |= train_together(runs, device, heard)
    if any(isinstance(result, Interrupted) for result in ended.values()):
        ended |= {seed: Interrupted() for seed in seeds if seed not in ended}
    for seed, result in ended.items():
        heard(seed, "done", result)
    return ended
