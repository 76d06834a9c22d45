"""Files of every format version: they load, predict the same and go on, for ever.

``tests/frozen/make_frozen.py`` made each folder once; nothing here runs it.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npnlp.backend import get_backend
from npnlp.classifier.classifier import Classifier
from npnlp.diagnosis.finding import diagnose
from npnlp.diagnosis.replay import read_replay
from npnlp.errors import InputError
from npnlp.files.tensors import ENTRY, FORMAT_VERSION, load_tensors
from npnlp.runs.run import Run
from npnlp.text import SurnameDataset
from npnlp.training.config import TrainingConfig
from tests.support.tables import read_json, refusal, run_main, tree

VERSIONS = sorted(Path(__file__).parents[1].glob("frozen/v*"))
ENTRIES = [
    (folder, name) for folder in VERSIONS for name in read_json(folder / "expected.json")["models"]
]
#: Of probabilities: float32 keeps seven digits, and sums of some ten terms in another order, as
#: another BLAS or another machine makes them, may cost the last: 6e-8 was measured.
PREDICTION = 1e-5
#: Of weights after five more updates. Adam divides a gradient by its own size, so that rounding of
#: one part in 1e7 may become more of an update of the size of the rate, 1e-2: 1e-7 was measured.
RESUMED = 1e-4
KINDS = {
    "model.safetensors": "npnlp classifier",
    "last.safetensors": "npnlp checkpoint",
    "replay.safetensors": "npnlp replay",
}

each_version = pytest.mark.parametrize("folder", VERSIONS, ids=lambda folder: folder.name)
each_entry = pytest.mark.parametrize(
    ("folder", "name"), ENTRIES, ids=[f"{folder.name}-{name}" for folder, name in ENTRIES]
)


def expected(folder: Path) -> Any:
    return read_json(folder / "expected.json")


def run_of(folder: Path, name: str, save_dir: Path) -> Run:
    """The run that was frozen, on the frozen table, in a folder of its own."""
    kept = expected(folder)["models"][name]
    dataset = SurnameDataset.load_dataset_and_load_vectorizer(
        folder / "table.csv", folder / "vectorizer.json"
    )
    course = kept["config"]
    if folder.name == "v1" and course.get("schedule") == "onecycle":
        course["schedule"] = "cosine"  # its name since OneCycleLR's rates have that one
    config = TrainingConfig(**course)
    return Run.make(dataset, config, kept["shape"], get_backend("numpy"), save_dir)


def test_there_is_a_folder_for_each_version_up_to_this_programs() -> None:
    assert [folder.name for folder in VERSIONS] == [f"v{n + 1}" for n in range(FORMAT_VERSION)]
    for folder in VERSIONS:
        kept = expected(folder)
        assert f"v{kept['format_version']}" == folder.name
        assert {"elman", "gru", "lstm", "transformer", "ngrams"} <= kept["models"].keys()


def test_they_stay_small() -> None:
    for folder in VERSIONS:
        assert sum(map(len, tree(folder).values())) < 300_000


@each_entry
def test_a_frozen_model_predicts_the_same(folder: Path, name: str) -> None:
    kept = expected(folder)
    classifier = Classifier.load(folder / name / "model.safetensors")
    found = classifier.probabilities(kept["names"])
    wanted = np.array(kept["models"][name]["probabilities"])
    np.testing.assert_allclose(found, wanted, rtol=0, atol=PREDICTION)
    assert wanted.std() > 0.01  # it says something of each name


@each_entry
def test_a_frozen_model_predicts_by_command(
    folder: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main("predict", "--save-dir", folder / name, "--json", "Ramini") == 0
    (found,) = json.loads(capsys.readouterr().out)
    kept = expected(folder)
    wanted = max(kept["models"][name]["probabilities"][kept["names"].index("Ramini")])
    assert found["probability"] == pytest.approx(wanted, abs=PREDICTION)


@each_entry
def test_a_frozen_checkpoint_goes_on_to_the_frozen_weights(
    folder: Path, name: str, tmp_path: Path
) -> None:
    kept = expected(folder)["models"][name]
    shutil.copy(folder / name / "last.safetensors", tmp_path)
    run = run_of(folder, name, tmp_path)
    before = run.trainer.model.state_dict()
    assert run.resume()
    assert 0 < run.trainer.progress.epoch < kept["config"]["num_epochs"]
    halfway = run.trainer.model.state_dict()
    run.train()
    assert [row["val_loss"] for row in run.trainer.progress.history] == pytest.approx(
        kept["val_loss"], abs=RESUMED
    )
    after = run.trainer.model.state_dict()
    wanted, _ = load_tensors(folder / name / "model.safetensors", "npnlp classifier")
    assert after.keys() == wanted.keys()
    for tensor, value in wanted.items():
        np.testing.assert_allclose(after[tensor], value, rtol=0, atol=RESUMED, err_msg=tensor)
    assert farthest(before, wanted) > farthest(halfway, wanted) > 10 * RESUMED


def farthest(first: Any, second: Any) -> float:
    return max(float(abs(first[name] - second[name]).max()) for name in first)


@each_version
def test_a_frozen_vectorizer_is_that_of_the_table(folder: Path) -> None:
    made = SurnameDataset.load_dataset_and_make_vectorizer(folder / "table.csv").get_vectorizer()
    assert made.vocabularies() == read_json(folder / "vectorizer.json")


@each_version
def test_a_frozen_replay_says_the_same(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    replay = read_replay(folder / "replay.safetensors")
    assert str(diagnose(replay, get_backend("numpy"))) == expected(folder)["replay"]
    assert run_main("replay", folder / "replay.safetensors") == 1
    assert expected(folder)["replay"] in capsys.readouterr().out


def with_version(path: Path, target: Path, version: Any) -> Path:
    """The file as a program of that format version might have written it."""
    whole = path.read_bytes()
    size = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + size])
    values = json.loads(header["__metadata__"][ENTRY])
    header["__metadata__"][ENTRY] = json.dumps({**values, "format_version": version})
    text = json.dumps(header).encode()
    target.write_bytes(len(text).to_bytes(8, "little") + text + whole[8 + size :])
    return target


@pytest.mark.parametrize("version", [FORMAT_VERSION + 1, 10**9, 0, "1", None])
@pytest.mark.parametrize("name", KINDS)
def test_another_version_is_refused_and_both_are_named(
    tmp_path: Path, name: str, version: Any
) -> None:
    folder = VERSIONS[-1] / ("" if name == "replay.safetensors" else "elman")
    path = with_version(folder / name, tmp_path / name, version)
    both = f"{re.escape(str(path))}.* version {version!r}.* version {FORMAT_VERSION}"
    with pytest.raises(InputError, match=both):
        load_tensors(path, KINDS[name])
    same = with_version(folder / name, tmp_path / f"same-{name}", FORMAT_VERSION)
    assert load_tensors(same, KINDS[name])


def test_a_newer_version_is_one_line_and_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    newer = FORMAT_VERSION + 1
    with_version(
        VERSIONS[-1] / "elman" / "model.safetensors", tmp_path / "model.safetensors", newer
    )
    before = tree(tmp_path)
    assert run_main("predict", "--save-dir", tmp_path, "Ramini") == 2
    refusal(capsys.readouterr().err, "model.safetensors", f"version {newer}", f"{FORMAT_VERSION}")
    assert tree(tmp_path) == before


def test_a_cycle_of_before_is_not_taken_for_pytorchs(tmp_path: Path) -> None:
    folder = VERSIONS[0]
    shutil.copy(folder / "lstm" / "last.safetensors", tmp_path)
    run = run_of(folder, "lstm", tmp_path)
    config = replace(run.trainer.config, schedule="onecycle", warm_up=0.15)
    kept = expected(folder)["models"]["lstm"]
    other = Run.make(run.dataset, config, kept["shape"], get_backend("numpy"), tmp_path)
    with pytest.raises(InputError, match="had schedule 'cosine', this one 'onecycle'"):
        other.resume()
