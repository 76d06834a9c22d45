"""Several seeds in the same launches of a device: each is the run that it would be alone."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from npnlp.backend import get_backend
from npnlp.cli.train_seeds import run_seeds
from npnlp.errors import DivergenceError, InputError
from npnlp.runs import flow_pool, together
from npnlp.runs import seeds as seeds_module
from npnlp.runs.seeds import Way, Work, folder_of, train_seeds
from npnlp.text import SurnameDataset
from tests.support.cupy_on_shim import CupyOnShim
from tests.support.shim import require_compiler
from tests.support.tables import write_table

SHAPE = {"embedding_size": 6, "rnn_hidden_size": 8}
TRAINING = {"batch_size": 16, "learning_rate": 0.02, "num_epochs": 3}
SEEDS = (5, 6, 7)
Made = Callable[..., Work]


class OnShim(CupyOnShim):
    """As the backend of a device that says which it is."""

    def describe(self) -> dict[str, str]:
        return {"backend": "cupy", "device": "shim"}


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> CupyOnShim:
    require_compiler()
    made = OnShim()
    monkeypatch.setattr(
        seeds_module, "get_backend", lambda name: made if name == "cupy" else get_backend(name)
    )
    # What is left for the host is done in this process: none has to be started.
    monkeypatch.setattr(seeds_module, "side_by_side", here)
    return made


class Here:
    """In the place of a process's parent."""

    def check(self) -> None:
        pass

    def note(self, value: Any) -> None:
        raise AssertionError("nothing is trained any more")


def here(call: Any, tasks: Any, jobs: Any, heard: Any, backend: str) -> list[Any]:
    results = [call(*task, Here()) for task in tasks]
    for number, result in enumerate(results):
        heard(number, "done", result)
    return results


@pytest.fixture
def work(tmp_path: Path) -> Made:
    write_table(tmp_path / "small.csv")
    dataset = SurnameDataset.load_dataset_and_make_vectorizer(tmp_path / "small.csv")

    def made(backend: str = "cupy", shape: Any = None, **more: Any) -> Work:
        settings = {name: more.pop(name) for name in ("resume", "overwrite") if name in more}
        return Work(dataset, TRAINING | more, SHAPE | (shape or {}), backend, **settings)

    return made


def test_each_folder_holds_the_run_that_it_would_alone(
    device: CupyOnShim, work: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gradient flow is made by other processes here."""
    monkeypatch.setattr(flow_pool, "LEAST", 1)
    monkeypatch.setattr(flow_pool, "cores", lambda: 2)
    out, alone = tmp_path / "out", tmp_path / "alone"
    heard: list[tuple[int, str]] = []
    found = train_seeds(
        work(), SEEDS, out, heard=lambda seed, kind, value: heard.append((seed, kind))
    )
    assert device.kernels.launched.count("many_train") == 3  # epochs
    assert [seed for seed, kind in heard if kind == "note"] == [5, 6, 7] * 3
    assert [seed for seed, kind in heard if kind == "done"] == [5, 6, 7]
    for seed in SEEDS:
        place: Any = Noted()
        seeds_module.train_one(work("numpy"), seed, alone, place)
        mine, right = folder_of(out, seed), folder_of(alone, seed)
        assert {path.name for path in mine.iterdir()} == {path.name for path in right.iterdir()}
        for name in ("model", "last"):
            weights, expected = (load_file(f / f"{name}.safetensors") for f in (mine, right))
            assert weights.keys() == expected.keys()
            for tensor, value in weights.items():
                np.testing.assert_allclose(value, expected[tensor], rtol=1e-3, atol=1e-5)
        metrics, expected_metrics = (
            json.loads((f / "metrics.json").read_text()) for f in (mine, right)
        )
        assert metrics == found.done[seed]
        assert metrics["test"]["loss"] == pytest.approx(expected_metrics["test"]["loss"], rel=1e-4)
        assert metrics["timing"]["epochs"] == 3
        first = metrics["computed_on"][0]
        assert (first["backend"], first["device"], first["from_epoch"]) == ("cupy", "shim", 0)
        flow, expected_flow = (
            np.genfromtxt(f / "gradient_flow.csv", delimiter=",", skip_header=1)
            for f in (mine, right)
        )
        np.testing.assert_allclose(flow[:, 2:], expected_flow[:, 2:], rtol=1e-2, atol=1e-6)
    assert json.loads((out / "seeds.json").read_text())["seeds"] == list(SEEDS)


class Noted(Here):
    """As :class:`Here`, of a run that is trained there."""

    def note(self, value: Any) -> None:
        pass


def test_after_ctrl_c_all_is_saved_and_resume_comes_to_the_same_bits(
    device: CupyOnShim, work: Made, tmp_path: Path
) -> None:
    out, whole = tmp_path / "out", tmp_path / "whole"

    def heard(seed: int, kind: str, value: Any) -> None:
        if (seed, kind) == (6, "note"):
            os.kill(os.getpid(), signal.SIGINT)

    found = train_seeds(work(), SEEDS, out, heard=heard)
    assert (found.done, found.failed, found.interrupted) == ({}, {}, list(SEEDS))
    device.kernels.launched.clear()
    again = train_seeds(work(resume=True), SEEDS, out)
    assert device.kernels.launched.count("many_train") == 2
    assert not again.interrupted
    right = train_seeds(work(), SEEDS, whole)
    for seed in SEEDS:
        assert again.done[seed]["test"] == right.done[seed]["test"]
        name = "model.safetensors"
        assert (folder_of(out, seed) / name).read_bytes() == (
            folder_of(whole, seed) / name
        ).read_bytes()
    device.kernels.launched.clear()
    done = train_seeds(work(resume=True), SEEDS, out)
    assert done.done == again.done
    assert not device.kernels.launched  # nothing was left to do


def test_one_that_diverges_and_one_without_room_leave_the_others(
    device: CupyOnShim, work: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, make = tmp_path / "out", Work.run_of

    def run_of(self: Work, seed: int, *arguments: Any) -> Any:
        run = make(self, seed, *arguments)
        if seed == 6:
            run.trainer.model.parameters["fc2.bias"][0] = np.nan
        return run

    folder_of(out, 7).mkdir(parents=True)
    (folder_of(out, 7) / "model.safetensors").write_bytes(b"of another run")
    monkeypatch.setattr(Work, "run_of", run_of)
    found = train_seeds(work(), SEEDS, out)
    assert list(found.done) == [5]
    assert isinstance(found.failed[6], DivergenceError)
    assert "npnlp replay" in str(found.failed[6])
    assert (folder_of(out, 6) / "replay.safetensors").exists()
    assert isinstance(found.failed[7], InputError)
    assert "a model is there" in str(found.failed[7])


def test_a_folder_that_is_gone_ends_one_run_and_no_other(
    device: CupyOnShim, work: Made, tmp_path: Path
) -> None:
    out = tmp_path / "out"

    def heard(seed: int, kind: str, value: Any) -> None:
        if (seed, kind) == (5, "note"):
            shutil.rmtree(folder_of(out, 6), ignore_errors=True)

    found = train_seeds(work(), SEEDS, out, heard=heard)
    assert list(found.done) == [5, 7]
    assert isinstance(found.failed[6], FileNotFoundError)


def test_checkpoints_are_written_now_and_then(
    device: CupyOnShim, work: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[int] = []
    save = together.Files.save

    def noted(self: together.Files) -> None:
        save(self)
        saved.append(self.run.trainer.progress.epoch)
        run = self.run  # the model of the best epoch so far, whichever that is
        weights, best = load_file(run.model_file), run.trainer.best
        assert all((weights[name] == value).all() for name, value in best.items())

    monkeypatch.setattr(together.Files, "save", noted)
    train_seeds(work(), (5, 6), tmp_path / "rarely")
    assert saved == [3, 3]
    saved.clear()
    monkeypatch.setattr(together, "SAVED_EVERY", -1.0)
    train_seeds(work(learning_rate=0.3), (5, 6), tmp_path / "often")
    assert saved == [1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize(
    ("backend", "seeds", "jobs", "shape", "why"),
    [
        ("numpy", SEEDS, None, {}, ""),
        ("cupy", (5,), None, {}, ""),
        ("cupy", SEEDS, 2, {}, "the number of jobs is given"),
        ("cupy", SEEDS, None, {"bidirectional": True}, "more than one layer, or two directions"),
    ],
)
def test_what_is_not_together_says_why(
    device: CupyOnShim, work: Made, tmp_path: Path, backend: str, seeds: Any, jobs: Any,
    shape: Any, why: str,
) -> None:  # fmt: skip
    found = Way.of(work(backend, shape), seeds, tmp_path, jobs)
    assert (found.device, found.why) == (None, why)


@pytest.mark.parametrize(
    ("shape", "line"),
    [
        ({}, "Seeds: 5 to 7, all 3 in one launch"),
        ({"pooling": "mean"}, "Seeds: 5 to 7, 1 at a time; not all in one launch: pooling mean"),
    ],
)
def test_the_command_says_which_way_it_takes(
    device: CupyOnShim, work: Made, tmp_path: Path, shape: Any, line: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    class Stop(Exception):
        pass

    def stop(*arguments: Any) -> None:
        raise Stop

    monkeypatch.setattr("npnlp.cli.train_seeds.train_seeds", stop)
    monkeypatch.setattr("npnlp.cli.train_seeds.cores", lambda: 1)
    said: list[str] = []
    options: Any = type("Options", (), {
        "seed": 5, "seeds": 3, "jobs": None, "quiet": True, "save_dir": tmp_path,
    })  # fmt: skip
    with pytest.raises(Stop):
        run_seeds(options, work(shape=shape), said.append)
    assert said == [line]
