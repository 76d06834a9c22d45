"""Every model and every option has a place: captured, launched kernel by kernel, or in no step."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from npnlp.backend.cuda.update import Rule
from npnlp.classifier.building import DECIDED
from npnlp.cli import train
from npnlp.layers.pooling.by_name import POOLINGS
from npnlp.layers.recurrent.cells import RESETS
from npnlp.layers.recurrent.elman import NONLINEARITIES
from npnlp.models import MODEL_CELLS, ClassifierConfig
from npnlp.text.dataset import CLASS_WEIGHTS
from npnlp.training import captured
from npnlp.training.captured import captured_steps, obstacle
from npnlp.training.config import TrainingConfig
from npnlp.training.optimizers import OPTIMIZERS
from npnlp.training.schedule import SCHEDULES
from tests.backend.cuda.test_captured import VARIANTS
from tests.backend.cuda.test_captured_layers import VARIANTS as LAYERS
from tests.backend.cuda.test_captured_options import OPTIONS
from tests.support.capturing import CapturingBackend
from tests.support.shim import require_compiler
from tests.support.training import make_trainer

#: The configurations that tests train captured, and hold to NumPy.
TESTED: list[dict[str, Any]] = [shape | training for shape, training in
                                (*VARIANTS.values(), *OPTIONS.values())]  # fmt: skip
TESTED += LAYERS.values()
#: What is launched kernel by kernel, and the obstacle that says why; docs/gpu.md names each.
LAUNCHED: dict[tuple[str, str], str] = {
    ("distributed", "mpi"): "several processes share every batch",
}
TOO_LONG = "attention over rows this long goes in parts"  # test_captured_layers.py
#: Of fields with few values, all of them; a pooling may be several.
CHOICES: dict[str, Any] = {
    "cell": MODEL_CELLS, "nonlinearity": NONLINEARITIES, "reset": RESETS, "pooling": POOLINGS,
    "optimizer": OPTIMIZERS, "schedule": SCHEDULES, "class_weights": CLASS_WEIGHTS,
}  # fmt: skip
#: "inverse" and "balanced" are the same to a weighted mean: weights are given, or not.
SAME = {("class_weights", "inverse"): ("class_weights", "balanced")}
#: Fields that no step reads, or all of them in the same way.
IN_NO_STEP = {
    "num_epochs": "how many steps there are",
    "early_stopping_criteria": "after an epoch",
    "prior_correction": "after training",
    "calibrate": "after training",
    "store": "after training",
    "seed": "of every stream; each test has one",
    "batch_size": "of every batch; each test has one",
    "num_embeddings": "a size", "num_classes": "a size", "embedding_size": "a size",
    "rnn_hidden_size": "a size", "num_ngrams": "a size",
    "padding_idx": "decided by the vocabulary", "unk_idx": "decided by the vocabulary",
}  # fmt: skip
#: Options of the command that are fields under another name.
RENAMED = {"char_embedding_size": "embedding_size"}
#: Options of the command that decide no step: the data, the folder, what is drawn and printed.
NO_FIELDS = {
    "surname_csv", "column", "label_column", "split_column", "delimiter", "split_by", "save_dir",
    "vectorizer_file", "model_state_file", "recipe", "backend", "reload_from_files", "resume",
    "overwrite", "threads", "seeds", "jobs", "quick", "pictures", "picture_format", "language",
    "quiet", "help",
}  # fmt: skip
SECTION = "What is captured, and what is not"


def defaults() -> dict[str, Any]:
    config = vars(ClassifierConfig(30, 18)) | vars(TrainingConfig())
    assert len(config) == len(fields(ClassifierConfig)) + len(fields(TrainingConfig))
    return config


def values_of(settings: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The fields and their values; every pooling by itself."""
    for name, value in settings.items():
        for one in value.split("+") if name == "pooling" else [value]:
            yield name, one


def wanted() -> set[tuple[str, Any]]:
    """Every field, with each of its values where they are few, else with one that is not given."""
    found = set()
    for name in defaults():
        found |= {(name, value) for value in CHOICES.get(name, ["any"])}
    return {pair for pair in found if pair[0] not in IN_NO_STEP}


def covered() -> set[tuple[str, Any]]:
    """What the tested configurations have, with all that is not given in them."""
    usual, found = defaults(), set()
    for settings in TESTED:
        for name, value in values_of(usual | settings):
            if name in CHOICES:
                found.add((name, value))
            elif value != usual[name]:
                found.add((name, "any"))
    return found | {pair for pair, other in SAME.items() if other in found}


def test_every_field_and_every_choice_has_one_place() -> None:
    assert set(IN_NO_STEP) <= set(defaults())
    assert set(DECIDED) <= set(IN_NO_STEP)
    assert wanted() - covered() == set(), "give what is new a place"
    assert not covered() & set(LAUNCHED)


def test_every_option_of_the_command_is_a_field_or_decides_no_step() -> None:
    parser = argparse.ArgumentParser()
    train.add_options(parser)
    options = {RENAMED.get(action.dest, action.dest) for action in parser._actions}
    launched = {name for name, _ in LAUNCHED}
    assert options - set(defaults()) - launched == NO_FIELDS


def test_what_is_launched_kernel_by_kernel_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    require_compiler()
    with CapturingBackend().in_place() as backend:
        trainer = make_trainer(backend, {}, {})
        assert obstacle(trainer) == ""
        monkeypatch.setattr(captured, "rule_of", lambda optimizer: None)
        assert obstacle(trainer) == "no kernel takes the steps of Adam"
        monkeypatch.setattr(captured, "rule_of", lambda optimizer: Rule("adam", (), ()))
        monkeypatch.setattr(trainer, "ranks", type("Ranks", (), {"size": 2}))
        why = LAUNCHED["distributed", "mpi"]
        assert obstacle(trainer) == why
        monkeypatch.setattr(captured, "obstacle", lambda updater: why)
        with pytest.warns(RuntimeWarning, match=f"launched kernel by kernel: {why}"):
            assert captured_steps(make_trainer(backend, {}, {})) is None


def test_the_documents_name_what_is_launched_kernel_by_kernel_and_nothing_else() -> None:
    text = (Path(__file__).parents[3] / "docs" / "gpu.md").read_text("utf-8")
    section = text.split(f"## {SECTION}\n")[1].split("\n## ")[0]
    said = set(re.findall(r"^\| .* \| (.*) \|$", section, re.MULTILINE)) - {"---"}
    of_ones_own = "no kernel runs this ...; no kernel takes the steps of ..."
    assert said == {"what the warning says", of_ones_own, TOO_LONG, *LAUNCHED.values()}
