"""A NaN or an infinity stops training where it first is, and the step can be repeated."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npnlp.backend import get_backend
from npnlp.classifier.batches import batches
from npnlp.diagnosis.arrays import check_step
from npnlp.diagnosis.finding import Finding, diagnose
from npnlp.diagnosis.replay import KIND, Rebuilt, read_replay, write_replay
from npnlp.errors import DivergenceError, InputError
from npnlp.files.tensors import load_tensors, save_tensors
from npnlp.runs.run import Run
from npnlp.text import SurnameDataset
from npnlp.training import updater as updater_module
from npnlp.training.clipping import clip_grad_norm
from npnlp.training.config import TrainingConfig
from npnlp.training.step_record import Replay
from tests.support.strict import StrictBackend
from tests.support.tables import (
    SMALL,
    check_same_weights,
    finished_run,
    is_one_line,
    make_run,
    npnlp,
    refusal,
    run_main,
    small_rows,
    train_small,
    write_table,
)

NUMPY = get_backend("numpy")
RELU = {"nonlinearity": "relu", "dropout": 0.0}
Parameters = dict[str, Any]
Plant = Callable[[Parameters], None]


def stopped(run: Run) -> tuple[Finding, Replay]:
    """Train until it stops: nothing may have changed, and the file has to say the same."""
    trainer = run.trainer
    state, steps = trainer.model.state_dict(), trainer.optimizer.steps
    moments = trainer.optimizer.state_dict()
    with pytest.raises(DivergenceError) as caught:
        run.train()
    finding = caught.value.finding
    assert isinstance(finding, Finding)
    for before, after in (
        (state, trainer.model.state_dict()),
        (moments, trainer.optimizer.state_dict()),
    ):
        assert {n: v.tobytes() for n, v in before.items()} == {
            n: v.tobytes() for n, v in after.items()
        }
    assert trainer.optimizer.steps == steps
    assert str(finding) in str(caught.value)
    assert str(run.replay_file) in str(caught.value)
    replay = read_replay(run.replay_file)
    assert diagnose(replay, NUMPY) == finding
    return finding, replay


def planted(folder: Path, plant: Plant, **options: Any) -> tuple[Finding, Run]:
    """What is found where training begins with these weights."""
    run = make_run(folder / "run", **options)
    plant(run.trainer.model.parameters)
    return stopped(run)[0], run


def first_rows(run: Run) -> list[int]:
    """The rows of the first batch."""
    shuffle = run.trainer.random.child("shuffle").at(0)
    return [int(row) for row in shuffle.permutation(len(run.trainer.train))[:16]]


def names_of(run: Run) -> dict[int, str]:
    names = run.dataset.frames["train"]["surname"]
    return {row: str(names.iloc[row]) for row in first_rows(run)}


def steps_of(name: str) -> int:
    return len(name) + 2  # with the marks of begin and end


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
@pytest.mark.parametrize("character", "mtR")
def test_a_nan_in_an_embedding_row_is_named_at_its_first_step(
    tmp_path: Path, character: str, nonlinearity: str
) -> None:
    run = make_run(tmp_path / "run", shape={"nonlinearity": nonlinearity})
    token = run.dataset.get_vectorizer().char_vocab.lookup_token(character)
    run.trainer.model.parameters["emb.weight"][token, 4] = np.nan
    finding, _ = stopped(run)
    where = {row: 1 + name.index(character) for row, name in names_of(run).items()
             if character in name}  # fmt: skip
    assert finding == Finding(
        epoch=1, batch=1, where="weight", layer="emb", value="nan", parameter="emb.weight",
        index=(token, 4), step=min(where.values()), row=finding.row, name=finding.name,
    )  # fmt: skip
    assert finding.row is not None
    assert where[finding.row] == finding.step
    assert finding.name == names_of(run)[finding.row]
    assert str(finding) == (
        f"epoch 1, batch 1: weight emb.weight[{token}, 4] is nan, first used at step "
        f"t = {finding.step} of row {finding.row} of train ({finding.name!r})"
    )


def test_an_embedding_row_that_no_name_uses_is_found_too(tmp_path: Path) -> None:
    def plant(parameters: Parameters) -> None:
        parameters["emb.weight"][1, 2] = -np.inf  # the unknown character

    finding, _ = planted(tmp_path, plant)
    assert str(finding) == "epoch 1, batch 1: weight emb.weight[1, 2] is -inf"


@pytest.mark.parametrize("shape", [{}, RELU], ids=["tanh", "relu"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("parameter", "index", "step"),
    [
        ("rnn.weight_ih_l0", (5, 3), 0),
        ("rnn.weight_hh_l0", (2, 7), 1),
        ("rnn.bias_ih_l0", (6,), 0),
        ("rnn.bias_hh_l0", (1,), 0),
        ("fc1.weight", (4, 0), None),
        ("fc1.bias", (3,), None),
        ("fc2.weight", (2, 5), None),
        ("fc2.bias", (0,), None),
    ],
)
def test_a_weight_that_is_not_finite_is_named(
    tmp_path: Path,
    shape: dict[str, Any],
    value: float,
    parameter: str,
    index: tuple[int, ...],
    step: int | None,
) -> None:
    """ReLU makes a zero of NaN, and tanh a one of infinity: both hide it from all that follows."""

    def plant(parameters: Parameters) -> None:
        parameters[parameter][index] = value

    finding, _ = planted(tmp_path, plant, shape=shape)
    assert finding.where == "weight"
    assert (finding.parameter, finding.index, finding.step) == (parameter, index, step)
    assert (finding.value, finding.layer) == (str(value), parameter.partition(".")[0])


def test_a_hidden_state_that_overflows_is_named_at_its_step(tmp_path: Path) -> None:
    def plant(parameters: Parameters) -> None:
        for name, value in (("weight_ih_l0", 0), ("bias_ih_l0", 1), ("bias_hh_l0", 0)):
            parameters[f"rnn.{name}"][...] = value
        parameters["rnn.weight_hh_l0"][...] = 1e10 * np.eye(8)  # h_t = 1e10^t: 1e40 is too much

    finding, run = planted(tmp_path, plant, shape=RELU)
    assert (finding.where, finding.layer, finding.value) == ("activation", "rnn", "inf")
    assert (finding.epoch, finding.batch, finding.step) == (1, 1, 4)
    assert finding.row in first_rows(run)
    assert "activation of rnn is inf at step t = 4 of row" in str(finding)


def test_a_recurrent_gradient_that_overflows_is_named_at_its_step(tmp_path: Path) -> None:
    """Unit 0 is 1 and keeps unit 1 at 1, through which the gradient grows by 1e6 a step."""

    def plant(parameters: Parameters) -> None:
        for name, value in (("weight_ih_l0", 0), ("bias_ih_l0", 1), ("bias_hh_l0", 0)):
            parameters[f"rnn.{name}"][...] = value
        parameters["rnn.weight_hh_l0"][...] = 0
        parameters["rnn.weight_hh_l0"][1, :2] = -1e6, 1e6
        parameters["fc1.bias"][...] = 1

    finding, run = planted(tmp_path, plant, shape=RELU)
    assert (finding.where, finding.layer, finding.parameter) == ("gradient", "rnn", None)
    names = names_of(run)
    longest = max(map(steps_of, names.values()))
    assert finding.step == longest - 1 - 7  # some 1e-2 times 1e6^7 is beyond 3e38
    assert finding.row is not None
    assert steps_of(names[finding.row]) == longest
    assert f"gradient of rnn is {finding.value} at step t = {finding.step} of" in str(finding)


def test_the_gradient_of_a_parameter_is_named(tmp_path: Path) -> None:
    def plant(parameters: Parameters) -> None:
        parameters["rnn.bias_ih_l0"][...] = 1e15
        parameters["fc1.weight"][...] = 0
        parameters["fc1.bias"][...] = 1
        parameters["fc2.weight"][...] = 1e30 * np.arange(3)[:, None]

    finding, _ = planted(tmp_path, plant, shape=RELU)
    assert (finding.where, finding.parameter) == ("gradient", "fc1.weight")
    assert (finding.index, finding.step, finding.row) == ((0, 0), None, None)
    assert f"gradient of fc1.weight[0, 0] is {finding.value}" in str(finding)


@pytest.mark.parametrize(
    ("layer", "changes"),
    [
        ("dropout1", {"rnn.bias_ih_l0": 3e38}),
        ("fc1", {"fc1.weight": 3e38, "rnn.weight_ih_l0": 0, "rnn.bias_ih_l0": 9}),
        ("dropout2", {"fc1.bias": 3e38}),
        ("fc2", {"fc1.weight": 0, "fc1.bias": 10, "fc2.weight": 3e38}),
    ],
)
def test_an_activation_that_overflows_is_named(
    tmp_path: Path, layer: str, changes: dict[str, float]
) -> None:
    def plant(parameters: Parameters) -> None:
        parameters["rnn.weight_hh_l0"][...] = 0
        for name, value in changes.items():
            parameters[name][...] = value

    finding, run = planted(tmp_path, plant, shape={"nonlinearity": "relu", "dropout": 0.5})
    assert (finding.where, finding.layer, finding.value) == ("activation", layer, "inf")
    assert finding.step is None
    assert finding.row in first_rows(run)


def test_a_loss_that_overflows_is_named_with_its_row(tmp_path: Path) -> None:
    def plant(parameters: Parameters) -> None:
        parameters["fc2.weight"][...] = 0
        parameters["fc2.bias"][...] = 3e38, -3e38, 0  # finite logits, too far from each other

    finding, run = planted(tmp_path, plant)
    assert (finding.where, finding.value) == ("loss", "inf")
    assert finding.row in first_rows(run)
    assert run.trainer.train.targets[finding.row] == 1


def test_a_gradient_whose_square_overflows_is_named(tmp_path: Path) -> None:
    def plant(parameters: Parameters) -> None:
        parameters["fc1.weight"][...] = 0
        parameters["fc1.bias"][...] = 1e25

    finding, _ = planted(tmp_path, plant, clip_norm=1.0)
    assert str(finding) == ("epoch 1, batch 1: squared norm of the gradient of fc2.weight is inf")


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_an_update_that_overflows_is_not_made(tmp_path: Path, optimizer: str) -> None:
    run = make_run(tmp_path / "run", optimizer=optimizer, learning_rate=1e39)
    finding, _ = stopped(run)
    assert str(finding).startswith("epoch 1, batch 1: the update would make emb.weight[")
    assert np.isfinite(run.trainer.model.flat.values).all()


def test_epoch_and_batch_are_named(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    run.trainer.run_epoch()

    def plant() -> None:
        if run.trainer.progress.batch == 2:
            run.trainer.model.parameters["fc1.weight"][1, 2] = np.nan

    with pytest.raises(
        DivergenceError, match=r"^epoch 2, batch 3: weight fc1.weight\[1, 2\] is nan"
    ):
        run.trainer.run_epoch(plant)
    assert run.trainer.optimizer.steps == 5


def test_a_validation_loss_that_is_not_finite_is_named(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    checked = run.trainer.step

    def plant_after_the_last(batch: Any) -> None:
        checked(batch)
        if run.trainer.progress.batch == 2:
            run.trainer.model.parameters["fc2.bias"][...] = 3e38, -3e38, 0

    run.trainer.step = plant_after_the_last  # type: ignore[method-assign]
    with pytest.raises(DivergenceError) as caught:
        run.train()
    finding = caught.value.finding
    names = run.dataset.frames["val"]["surname"]
    assert (finding.where, finding.split, finding.epoch, finding.batch) == ("loss", "val", 1, 1)
    assert run.trainer.val.targets[finding.row] == 1
    assert finding.name == names.iloc[finding.row]
    assert str(finding).startswith("epoch 1, batch 1 of val: loss is inf at row")
    assert diagnose(read_replay(run.replay_file), NUMPY) == finding


def test_a_fault_that_does_not_repeat_is_called_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "run")
    objective = run.trainer.objective

    def broken(*arguments: Any) -> Any:
        return objective(*arguments)._replace(loss_sum=np.array(np.nan, np.float32))

    vars(run.trainer)["objective"] = broken
    with pytest.raises(DivergenceError, match="loss is nan, but not when the step is repeated"):
        run.train()
    assert run_main("replay", run.replay_file) == 0
    assert "epoch 1, batch 1: every number is finite" in capsys.readouterr().out


def test_looking_into_every_step_changes_nothing(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(updater_module, "SAFE_RATE", 0.0)
    assert train_small(tmp_path / "run") == 0
    check_same_weights(finished_run(tmp_path_factory), tmp_path / "run")


def test_finite_weights_whose_squares_overflow_are_no_reason_to_stop(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", num_epochs=1)
    run.trainer.model.parameters["rnn.bias_ih_l0"][...] = 1e25
    run.train()
    assert len(run.trainer.progress.history) == 1


def test_another_backend_finds_the_same(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", learning_rate=1e6, shape=RELU, optimizer="sgd")
    with pytest.raises(DivergenceError) as caught:
        run.train()
    found = diagnose(read_replay(run.replay_file), StrictBackend())
    assert found == caught.value.finding
    assert found is not None


# --- the command


EXPLODING = ("--nonlinearity", "relu", "--optimizer", "sgd", "--learning-rate")


@pytest.mark.parametrize("rate", ["1e6", "1e30"])
def test_an_exploding_run_leaves_one_line_and_a_replay_that_says_the_same(
    tmp_path: Path, rate: str
) -> None:
    table, folder = write_table(tmp_path / "small.csv"), tmp_path / "run"
    done = npnlp("train", "--surname-csv", table, "--save-dir", folder, *SMALL, *EXPLODING, rate,
                 "--quiet")  # fmt: skip
    assert (done.returncode, done.stdout) == (1, b"")
    line = refusal(done.stderr.decode(), "npnlp train: epoch 1, batch ", "--learning-rate",
                   folder / "replay.safetensors")  # fmt: skip
    for name in ("last", "model"):
        if (folder / f"{name}.safetensors").exists():
            kind = {"last": "npnlp checkpoint", "model": "npnlp classifier"}[name]
            tensors, _ = load_tensors(folder / f"{name}.safetensors", kind)
            assert all(np.isfinite(value).all() for value in tensors.values())
    assert (folder / "last.safetensors").exists()

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (folder / "replay.safetensors").rename(elsewhere / "moved.safetensors")
    table.unlink()
    again = npnlp("replay", "moved.safetensors", cwd=elsewhere)
    assert (again.returncode, again.stderr) == (1, b"")
    finding, _, header, *lines = again.stdout.decode().splitlines()
    assert finding.startswith("epoch 1, batch ")
    assert f"npnlp train: {finding}; " in line
    assert header.split() == ["array", "layer", "largest", "first", "not", "finite"]
    assert [row.split()[:2] for row in lines[:3]] == [
        ["weight", "emb"], ["weight", "rnn"], ["activation", "rnn"],
    ]  # fmt: skip


def test_the_replay_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train_small(tmp_path / "run", *EXPLODING, "1e30") == 1
    said = capsys.readouterr().err
    assert run_main("replay", tmp_path / "run" / "replay.safetensors", "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert found["finding"]["line"] in said
    assert (found["finding"]["where"], found["finding"]["layer"]) == ("activation", "rnn")
    first = next(array for array in found["arrays"] if array["value"])
    assert first["largest"] is None
    assert first["step"] == found["finding"]["step"]


def test_a_healthy_run_leaves_no_replay_and_takes_an_old_one_away(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    assert train_small(folder, *EXPLODING, "1e30") == 1
    assert (folder / "replay.safetensors").exists()
    assert train_small(folder) == 0
    assert not (folder / "replay.safetensors").exists()
    capsys.readouterr()
    assert run_main("replay", folder / "replay.safetensors") == 2
    refusal(capsys.readouterr().err, "npnlp replay:", "replay.safetensors", "no such file")


def test_resuming_an_exploded_run_stops_at_the_same_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_small(tmp_path / "run", *EXPLODING, "1e30") == 1
    first = capsys.readouterr().err
    assert train_small(tmp_path / "run", *EXPLODING, "1e30", "--resume") == 1
    assert capsys.readouterr().err == first


def healthy(folder: Path) -> Replay:
    run = make_run(folder / "run", class_weights="inverse")
    run.trainer.run_epoch()
    rows = np.array([3, 30, 1])
    return run.trainer.record(rows, "train", 1)


def test_a_replay_repeats_the_step_to_the_bit(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", class_weights="inverse", clip_norm=0.01)
    trainer = run.trainer
    trainer.run_epoch()
    steps: list[tuple[Replay, float]] = []

    def spy(*arguments: Any) -> Any:
        norm = clip_grad_norm(*arguments)
        steps.append((trainer.record(shuffled[len(steps)], "train", 1), float(norm)))
        return norm

    order = trainer.random.child("shuffle").at(1).permutation(len(trainer.train))
    shuffled = [order[:16], order[16:32], order[32:]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(updater_module, "clip_grad_norm", spy)
        trainer.run_epoch()
    after = [*(replay.weights for replay, _ in steps[1:]), trainer.model.state_dict()]
    for (replay, norm), weights in zip(steps, after, strict=True):
        path = tmp_path / "step.safetensors"
        write_replay(path, replay)
        readings = check_step(read_replay(path), NUMPY)
        (found,) = (r.largest for r in readings if r.where == "gradient norm")
        assert found == norm
        largest = {r.parameter: r.largest for r in readings if r.where == "update"}
        assert largest == {name: float(np.abs(value).max()) for name, value in weights.items()}


def test_a_healthy_replay_is_status_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_replay(tmp_path / "r.safetensors", healthy(tmp_path))
    assert run_main("replay", tmp_path / "r.safetensors") == 0
    assert capsys.readouterr().out.startswith("epoch 2, batch 1: every number is finite\n")


def test_a_replay_of_a_model_with_ngrams_is_read(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", shape={"ngram_orders": (1, 2), "ngram_size": 4})
    path = tmp_path / "r.safetensors"
    write_replay(path, run.trainer.record(np.array([3, 30, 1]), "train", 1))
    again = read_replay(path)
    assert again.weights["ngrams.keys"].dtype == np.int64
    assert check_step(again, NUMPY)


Tensors = dict[str, Any]
Change = Callable[[Tensors, dict[str, Any]], Any]
DAMAGES: dict[str, tuple[Change, str]] = {
    "a weight missing": (lambda t, v: t.pop("weights.fc1.weight"), "weights"),
    "no weights": (lambda t, v: [t.pop(n) for n in list(t) if "weights." in n], "weights"),
    "a weight renamed": (
        lambda t, v: t.update({"weights.x": t.pop("weights.fc1.bias")}), "'x'"),
    "a weight of another shape": (
        lambda t, v: t.update({"weights.fc1.weight": t["weights.fc1.weight"].reshape(4, 16)}),
        "fc1.weight"),
    "weights as integers": (
        lambda t, v: t.update({"weights.fc1.bias": np.arange(8)}), "int64"),
    "a moment missing": (lambda t, v: t.pop("moments.first_sum"), "first_sum"),
    "a moment too short": (
        lambda t, v: t.update({"moments.first_sum": np.zeros(3, np.float32)}), "first_sum"),
    "tokens missing": (lambda t, v: t.pop("batch.tokens"), "batch.tokens"),
    "a token too large": (lambda t, v: t["batch.tokens"].__setitem__(0, 999), "tokens"),
    "a token below zero": (lambda t, v: t["batch.tokens"].__setitem__(0, -1), "tokens"),
    "a target too large": (lambda t, v: t["batch.targets"].__setitem__(0, 3), "targets"),
    "a length of zero": (lambda t, v: t["batch.lengths"].__setitem__(0, 0), "lengths"),
    "a length too large": (lambda t, v: t["batch.lengths"].__setitem__(0, 2**62), "length"),
    "no rows at all": (
        lambda t, v: t.update({n: t[n][:0] for n in t if n.startswith("batch.")}), "lengths"),
    "tokens of floats": (
        lambda t, v: t.update({"batch.tokens": t["batch.tokens"] * 1.0}), "tokens"),
    "class weights too few": (
        lambda t, v: t.update({"class_weights": np.ones(2, np.float32)}), "class_weights"),
    "class weights of another dtype": (
        lambda t, v: t.update({"class_weights": np.ones(3)}), "class_weights"),
    "class weights of NaN": (
        lambda t, v: t["class_weights"].__setitem__(0, np.nan), "class_weights"),
    "a learning rate of zero": (lambda t, v: v.update(learning_rate=0.0), "learning_rate"),
    "batch zero": (lambda t, v: v.update(batch=0), "batch"),
    "configuration missing": (lambda t, v: v.pop("config"), "config"),
    "another configuration": (lambda t, v: v["config"].update(rnn_hidden_size=9), "weights"),
    "a huge configuration": (
        lambda t, v: v["config"].update(rnn_hidden_size=10**6), "rnn_hidden_size"),
    "an unknown cell": (lambda t, v: v["config"].update(cell="gru2"), "gru2"),
    "training missing": (lambda t, v: v.pop("training"), "training"),
    "training a list": (lambda t, v: v.update(training=[1]), "training"),
    "a seed that is text": (lambda t, v: v["training"].update(seed="x"), "seed"),
    "an unknown optimizer": (lambda t, v: v["training"].update(optimizer="lion"), "lion"),
    "a setting unknown": (lambda t, v: v["training"].update(warmup=3), "warmup"),
    "a learning rate of NaN": (lambda t, v: v.update(learning_rate=float("nan")), "learning_rate"),
    "steps below zero": (lambda t, v: v.update(steps=-1), "steps"),
    "steps as text": (lambda t, v: v.update(steps="3"), "steps"),
    "an unknown split": (lambda t, v: v.update(split="dev"), "'dev'"),
    "names as a number": (lambda t, v: v.update(names=3), "names"),
    "too few names": (lambda t, v: v.update(names=["Rossi"]), "names"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_replay_is_one_line_and_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    change, word = DAMAGES[damage]
    path = tmp_path / "r.safetensors"
    write_replay(path, healthy(tmp_path))
    tensors, values = load_tensors(path, KIND)
    change(tensors, values)
    save_tensors(path, KIND, tensors, values)
    assert run_main("replay", path) == 2
    refusal(capsys.readouterr().err, "npnlp replay:", path, word)


@pytest.mark.parametrize("content", [b"", b"not a file of tensors", None])
def test_a_file_that_is_no_replay_is_one_line_and_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None
) -> None:
    path = tmp_path / "r.safetensors"
    write_replay(path, healthy(tmp_path))
    path.write_bytes(path.read_bytes()[:-100] if content is None else content)
    assert run_main("replay", path) == 2
    assert is_one_line(capsys.readouterr().err)
    with pytest.raises(InputError, match="not a readable safetensors file"):
        read_replay(path)


def test_a_checkpoint_is_no_replay(
    tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main("replay", finished_run(tmp_path_factory) / "last.safetensors") == 2
    refusal(capsys.readouterr().err, "npnlp replay:", "holds npnlp checkpoint, not npnlp replay")


# --- the norm after clipping


@pytest.mark.parametrize("clip_norm", [None, 0.2, 100.0])
def test_history_has_the_norm_after_clipping(tmp_path: Path, clip_norm: float | None) -> None:
    run = make_run(tmp_path / "run", clip_norm=clip_norm)
    after: list[float] = []

    def spy(grads: Any, *rest: Any) -> Any:
        norm = clip_grad_norm(grads, *rest)
        after.append(float(np.linalg.norm(grads)))
        return norm

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(updater_module, "clip_grad_norm", spy)
        row = run.trainer.run_epoch()
    assert row["grad_norm_clipped"] == pytest.approx(np.mean(after), rel=1e-5)
    if clip_norm == 0.2:
        assert row["grad_norm_clipped"] < row["grad_norm"]
    else:
        assert row["grad_norm_clipped"] == pytest.approx(row["grad_norm"])


SOFT: dict[str, dict[str, Any]] = {
    "smoothing": {"label_smoothing": 0.1},
    "smoothing and class weights": {"label_smoothing": 0.1, "class_weights": "balanced"},
    "adjustment": {"logit_adjustment": 1.0},
    "merged": {"merge_repeats": True},
    "all": {"label_smoothing": 0.1, "logit_adjustment": 0.5, "consistency": 1.0,
            "merge_repeats": True, "clip_norm": 1.0},
}  # fmt: skip
each_soft = pytest.mark.parametrize("options", SOFT.values(), ids=SOFT)


def with_repeats(folder: Path, **options: Any) -> Run:
    """A run on a table in which some names stand several times, so that merging moves rows."""
    rows = small_rows()
    rows[3:3] = [("Russian", "train", rows[0][2]), ("Italian", "train", rows[0][2])]
    dataset = SurnameDataset.load_dataset_and_make_vectorizer(
        write_table(folder / "repeats.csv", rows)
    )
    config = TrainingConfig(
        num_epochs=3, batch_size=16, seed=5, learning_rate=options.pop("learning_rate", 0.02),
        **options,
    )  # fmt: skip
    shape = {"embedding_size": 6, "rnn_hidden_size": 8}
    return Run.make(dataset, config, shape, NUMPY, folder / "run")


@each_soft
@pytest.mark.parametrize(
    ("parameter", "index"),
    [("rnn.weight_hh_l0", (2, 7)), ("fc2.bias", (0,)), ("emb.weight", (5, 1))],
)
def test_a_step_with_distributions_as_targets_is_kept_too(
    tmp_path: Path, options: dict[str, Any], parameter: str, index: tuple[int, ...]
) -> None:
    run = with_repeats(tmp_path, **options)
    run.trainer.model.parameters[parameter][index] = np.nan
    finding, replay = stopped(run)
    assert (finding.where, finding.parameter, finding.index) == ("weight", parameter, index)
    assert finding.repeats
    if finding.row is not None:  # the row of the table's split, and its name
        assert run.dataset.frames["train"]["surname"].iloc[finding.row] == finding.name
        assert finding.row in replay.rows
    assert run_main("replay", run.replay_file) == 1


@each_soft
def test_a_rate_that_explodes_stops_distributions_as_targets(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    run = with_repeats(tmp_path, learning_rate=1e39, optimizer="sgd", **options)
    run.trainer.model.flat.values *= 3
    finding, _ = stopped(run)
    assert finding.where == "update"
    assert finding.repeats


@each_soft
def test_a_kept_step_has_the_bits_of_training(tmp_path: Path, options: dict[str, Any]) -> None:
    trainer = with_repeats(tmp_path, **options).trainer
    (batch, *_) = batches(trainer.train, np.arange(len(trainer.train))[::-1], 16, NUMPY)
    replay = trainer.record(batch.rows, "train", 1)
    write_replay(tmp_path / "replay.safetensors", replay)
    parts = Rebuilt(read_replay(tmp_path / "replay.safetensors"), NUMPY)
    assert parts.objective is not None
    assert parts.random is not None
    parts.objective(parts.model, parts.batch, parts.random, None)
    trainer.objective(trainer.model, batch, trainer.random.at(0), None)
    assert parts.model.flat.grads.tobytes() == trainer.model.flat.grads.tobytes()
    assert np.abs(parts.model.flat.grads).max() > 0


def test_a_kept_step_without_the_frequencies_is_damaged(tmp_path: Path) -> None:
    trainer = with_repeats(tmp_path, **SOFT["all"]).trainer
    replay = trainer.record(np.arange(16), "train", 1)
    path = tmp_path / "replay.safetensors"
    for changed in (
        {"log_prior": None}, {"shares": None}, {"log_prior": np.zeros(7)},
        {"row_weights": np.full(16, np.nan)},
    ):  # fmt: skip
        write_replay(path, replace(replay, **changed))
        with pytest.raises(InputError, match="damaged replay"):
            read_replay(path)


def test_a_false_alarm_does_not_stop_distributions_as_targets(tmp_path: Path) -> None:
    """A rate above the safe one is looked into at every step, and found to be finite."""
    run = with_repeats(tmp_path, learning_rate=2e18, optimizer="sgd", label_smoothing=0.1)
    run.trainer.model.flat.values *= 0  # only the last bias moves
    run.trainer.run_epoch()
