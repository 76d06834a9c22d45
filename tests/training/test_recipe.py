"""``npnlp train --recipe``, the options that recipes are made of, and the flow of their models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pandas as pd
import pytest

from npnlp.classifier.classifier import Classifier
from npnlp.errors import DivergenceError, InputError
from npnlp.runs.run import Run
from npnlp.training.config import TrainingConfig
from npnlp.training.recipes import RECIPES
from tests.support.tables import (
    FILES,
    Row,
    check_same_run,
    check_same_weights,
    make_run,
    npnlp,
    read_json,
    refusal,
    run_main,
    small_rows,
    stop_after,
    tree,
    write_table,
)

Capture = pytest.CaptureFixture[str]
WIDE = RECIPES["wide"]
#: So small that an epoch takes a tenth of a second; the parts are all there.
SIZES = ("--char-embedding-size", "6", "--rnn-hidden-size", "6", "--batch-size", "16",
         "--seed", "5")  # fmt: skip
TINY = (*SIZES, "--ngram-size", "4")
TINY_SHAPE = {"embedding_size": 6, "rnn_hidden_size": 6, "ngram_size": 4}
#: Fields of the run, not of the model.
TRAINING = set(TrainingConfig.__dataclass_fields__)


def rows_with_repeats() -> list[Row]:
    """The small table, with some names of train again, one under another class."""
    rows = small_rows()
    again = [row for row in rows if row[1] == "train"][::5]
    other: Row = ("Russian", "train", again[0][2])
    return [*rows, *again, again[0], other]


def train(folder: Path, *options: str | Path, recipe: bool = True, tiny: bool = True) -> int:
    folder.parent.mkdir(parents=True, exist_ok=True)
    table = folder.parent / "repeats.csv"
    if not table.exists():
        write_table(table, rows_with_repeats())
    named = ("--recipe", "wide") if recipe else ()
    sizes = (TINY if recipe else SIZES) if tiny else ()
    return run_main("train", "--surname-csv", table, "--save-dir", folder, *named, *sizes, *options)


def make_wide(folder: Path, epochs: int = 3, **changes: Any) -> Run:
    """The run of the recipe, at a tiny size, before it begins."""
    values = {**WIDE, "num_epochs": epochs, "batch_size": 16, "seed": 5, **changes}
    config = {name: value for name, value in values.items() if name in TRAINING}
    shape = {name: value for name, value in values.items() if name not in TRAINING}
    return make_run(folder, rows_with_repeats(), shape | TINY_SHAPE, **config)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the recipe in a process of its own; not to be written to."""
    folder = tmp_path_factory.mktemp("recipe") / "run"
    table = write_table(folder.parent / "repeats.csv", rows_with_repeats())
    done = npnlp("train", "--surname-csv", table, "--save-dir", folder, "--recipe", "wide",
                 "--quick", *TINY)  # fmt: skip
    (folder.parent / "out.txt").write_bytes(done.stdout)
    assert (done.returncode, done.stderr) == (0, b"")
    return folder


def test_the_recipe_is_printed_in_full(finished: Path) -> None:
    lines = (finished.parent / "out.txt").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "Recipe wide:"
    printed = [line.split() for line in lines[1 : len(WIDE) + 1]]
    options = {"char_embedding_size" if k == "embedding_size" else k: v for k, v in WIDE.items()}
    assert [words[0] for words in printed] == list(options)
    changed = {"char_embedding_size": "6", "rnn_hidden_size": "6", "ngram_size": "4",
               "num_epochs": "2", "batch_size": "16"}  # fmt: skip
    for line, (name, value) in zip(lines[1:], options.items(), strict=False):
        shown = f"  {name} = {changed.get(name, value)}"
        note = f" (in the recipe: {value})" if name in changed else ""
        assert line == shown + note
    assert lines[len(WIDE) + 1].startswith("Data: ")


def test_the_recipe_arrives_whole(finished: Path) -> None:
    assert set(tree(finished)) == FILES - {"page.html"}  # which shows no n-grams
    metrics = read_json(finished / "metrics.json")
    arrived = {**metrics["model"], **metrics["training"]}
    given = {"embedding_size": 6, "rnn_hidden_size": 6, "ngram_size": 4, "num_epochs": 2,
             "batch_size": 16}  # fmt: skip
    for name, value in WIDE.items():
        assert arrived[name] == given.get(name, value), name


def test_a_recipe_names_options_that_are_there() -> None:
    assert set(RECIPES) == {"light", "wide"}
    for recipe in RECIPES.values():
        config = TrainingConfig(**{k: v for k, v in recipe.items() if k in TRAINING})
        assert config.soft
        assert config.schedule == "cosine"


def test_the_file_alone_predicts(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes((finished / "model.safetensors").read_bytes())
    done = npnlp("predict", "--save-dir", tmp_path, "Ramini", "Vamov", "Q\u00e9", "--top-k", "3")
    assert done.returncode == 0
    lines = done.stdout.decode().splitlines()
    assert [line.split()[0] for line in lines] == ["Ramini", "Vamov", "Q\u00e9"]
    assert "\u00e9" in done.stderr.decode().splitlines()[-1].lower()  # the unknown character


def test_evaluating_the_file_finds_what_training_reported(finished: Path, capsys: Capture) -> None:
    table = finished.parent / "repeats.csv"
    assert run_main("evaluate", "--save-dir", finished, "--surname-csv", table) == 0
    metrics = read_json(finished / "metrics.json")
    lines = capsys.readouterr().out.splitlines()[2:5]
    for line, split in zip(lines, ("train", "val", "test"), strict=True):
        assert f"{metrics[split]['loss']:.4f}" in line
    # All rows are counted, not those of the merged table.
    assert int(lines[0].split()[1]) == sum(row[1] == "train" for row in rows_with_repeats())


@pytest.mark.parametrize("where", ["before", "after"])
def test_an_option_given_wins_wherever_it_stands(
    tmp_path: Path, where: str, capsys: Capture
) -> None:
    table = write_table(tmp_path / "repeats.csv", rows_with_repeats())
    given = ("--num-epochs", "3", "--cell", "elman", "--no-gradient-flow", "--hidden-layer",
             "--ngram-orders", "2", "--consistency", "0", *TINY)  # fmt: skip
    recipe = ("--recipe", "wide")
    words = (*given, *recipe) if where == "before" else (*recipe, *given)
    folder = tmp_path / "run"
    assert run_main("train", *words, "--surname-csv", table, "--save-dir", folder) == 0
    printed = capsys.readouterr().out
    assert "  num_epochs = 3 (in the recipe: 20)\n" in printed
    assert "  cell = elman (in the recipe: gru)\n" in printed
    assert "  ngram_orders = [2] (in the recipe: [1, 2, 3, 4])\n" in printed
    assert "  weight_decay = 0.03\n" in printed
    metrics = read_json(folder / "metrics.json")
    assert len(pd.read_csv(folder / "history.csv")) == metrics["training"]["num_epochs"] == 3
    model = metrics["model"]
    assert (model["cell"], model["hidden_layer"], model["ngram_orders"]) == ("elman", True, [2])
    assert metrics["training"]["consistency"] == 0
    assert not metrics["training"]["gradient_flow"]


def test_the_order_of_the_options_changes_no_bit(tmp_path: Path) -> None:
    """What the library makes of the recipe is what the command makes of it."""
    assert train(tmp_path / "run", "--num-epochs", "3", "--quiet") == 0
    run = make_wide(tmp_path / "library")
    run.train()
    one, other = (read(folder / "model.safetensors") for folder in (tmp_path / "run", run.save_dir))
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert value.tobytes() == other[name].tobytes(), name


def read(path: Path) -> dict[str, Any]:
    return Classifier.load(path).model.state_dict()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three epochs without a stop."""
    run = make_wide(tmp_path_factory.mktemp("whole") / "run")
    run.train()
    return run.save_dir


@pytest.mark.parametrize("batches", [1, 3, 4, 8])
def test_a_stop_leaves_no_trace(whole: Path, tmp_path: Path, batches: int) -> None:
    stop_after(make_wide(tmp_path / "parts"), batches)
    parts = make_wide(tmp_path / "parts")
    assert parts.resume()
    progress = parts.trainer.progress
    assert progress.epoch * parts.trainer.batches_per_epoch + progress.batch == batches
    parts.train()
    check_same_weights(whole, parts.save_dir)


def test_a_trainers_state_goes_into_another(tmp_path: Path) -> None:
    first, second = (make_wide(tmp_path / name).trainer for name in ("one", "other"))
    first.run_epoch()
    tensors, values = first.state()
    kept = {name: value.copy() for name, value in tensors.items()}
    second.load_state(kept, values)
    for trainer in (first, second):
        trainer.run_epoch()
    assert first.model.flat.values.tobytes() == second.model.flat.values.tobytes()
    assert first.optimizer.learning_rate == second.optimizer.learning_rate


def test_with_a_cycle_other_epochs_are_another_run(tmp_path: Path) -> None:
    stop_after(make_wide(tmp_path / "run"), 3)
    with pytest.raises(InputError, match="num_epochs 3, this one 5"):
        make_wide(tmp_path / "run", epochs=5).resume()


def test_resuming_a_finished_run_of_a_recipe_changes_nothing(
    finished: Path, tmp_path: Path
) -> None:
    """So the correction for the classes' shares is taken off once."""
    for name, content in tree(finished).items():
        (tmp_path / "run").mkdir(exist_ok=True)
        (tmp_path / "run" / name).write_bytes(content)
    write_table(tmp_path / "repeats.csv", rows_with_repeats())
    assert train(tmp_path / "run", "--quick", "--resume", "--quiet") == 0
    check_same_run(finished, tmp_path / "run")


def test_the_correction_is_taken_off_the_last_bias_once(tmp_path: Path) -> None:
    runs = [
        make_wide(tmp_path / str(tau), epochs=1, prior_correction=tau, store="float32")
        for tau in (0.0, 0.4)
    ]
    for run in runs:
        run.train()
    states = [read(run.model_file) for run in runs]
    labels = [row[0] for row in rows_with_repeats() if row[1] == "train"]
    names = runs[0].dataset.get_vectorizer().nationality_vocab.tokens
    log_prior = np.log([labels.count(name) / len(labels) for name in names])
    for name in states[0]:
        difference = states[0][name] - states[1][name]
        expected = 0.4 * log_prior if name == "fc2.bias" else np.zeros(difference.shape)
        np.testing.assert_allclose(difference, expected, rtol=0, atol=1e-6)
    last = runs[1].trainer
    np.testing.assert_array_equal(last.best["fc2.bias"], states[0]["fc2.bias"])
    last.finish()
    np.testing.assert_array_equal(last.model.state_dict()["fc2.bias"], states[1]["fc2.bias"])


def test_with_a_cycle_the_last_epoch_is_kept(tmp_path: Path) -> None:
    run = make_wide(tmp_path / "run", epochs=4, prior_correction=0.0, early_stopping_criteria=1,
                    store="float32")  # fmt: skip
    run.train()
    trainer = run.trainer
    assert trainer.progress.best_epoch == 3
    assert not trainer.progress.stopped_early
    rates = [row["learning_rate"] for row in trainer.progress.history]
    assert max(rates) <= WIDE["learning_rate"]
    assert rates[-1] < 0.1 * max(rates)
    for name, value in trainer.model.state_dict().items():
        assert value.tobytes() == trainer.best[name].tobytes()


def test_merged_rows_are_trained_on_and_all_rows_are_counted(tmp_path: Path) -> None:
    trainer = make_wide(tmp_path / "run", merge_repeats=True).trainer
    names = [row[2] for row in rows_with_repeats() if row[1] == "train"]
    assert len(trainer.train) == len(set(names)) < len(names)
    shares = trainer.train.shares
    assert shares is not None
    assert (np.count_nonzero(shares, axis=1) == 2).sum() == 1


EACH_PART: list[dict[str, Any]] = [
    {"beta2": 0.9}, {"weight_decay": 1.0}, {"schedule": "plateau"}, {"warm_up": 0.5},
    {"bucket": 0}, {"merge_repeats": True}, {"label_smoothing": 0.3}, {"logit_adjustment": 1.0},
    {"consistency": 0.0}, {"prior_correction": 0.0}, {"hidden_layer": True},
    {"ngram_orders": [1, 2]}, {"ngram_dropout": 0.1}, {"char_dropout": 0.5},
    {"embedding_dropout": 0.0}, {"pooling": "mean"}, {"bidirectional": False},
    {"clip_norm": 0.01}, {"ngram_min_count": 3}, {"store": "float32"},
]  # fmt: skip


@pytest.fixture(scope="module")
def one_epoch(tmp_path_factory: pytest.TempPathFactory) -> list[list[float]]:
    return outcome_of(tmp_path_factory.mktemp("one") / "run")


def outcome_of(folder: Path, **changes: Any) -> list[list[float]]:
    run = make_wide(folder, epochs=1, **changes)
    run.train()
    return run.classifier.probabilities(["Ramini", "Vamov", "Namoto"]).tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("change", EACH_PART, ids=str)
def test_every_part_counts(
    one_epoch: list[list[float]], tmp_path: Path, change: dict[str, Any]
) -> None:
    assert outcome_of(tmp_path / "run", **change) != one_epoch


BAD_OPTIONS = [
    ("--beta2", "1"), ("--beta2", "-0.1"), ("--beta2", "nan"), ("--weight-decay", "-1"),
    ("--weight-decay", "nan"), ("--weight-decay", "inf"), ("--schedule", "linear"),
    ("--warm-up", "1"), ("--warm-up", "-0.5"), ("--bucket", "-1"), ("--bucket", "1.5"),
    ("--label-smoothing", "1"), ("--label-smoothing", "-0.1"), ("--label-smoothing", "nan"),
    ("--logit-adjustment", "-1"), ("--logit-adjustment", "inf"), ("--consistency", "-1"),
    ("--consistency", "nan"), ("--prior-correction", "-1"), ("--prior-correction", "much"),
    ("--ngram-orders", "0"), ("--ngram-orders", "-1"), ("--ngram-orders", "9"),
    ("--ngram-orders", "1", "0"), ("--ngram-orders", "1000"), ("--ngram-orders", "x"),
    ("--ngram-size", "0"), ("--ngram-dropout", "1"), ("--ngram-min-count", "0"),
    ("--store", "float8"),
    ("--ngram-dropout", "nan"), ("--char-dropout", "1"), ("--char-dropout", "-0.1"),
    ("--embedding-dropout", "2"), ("--rnn-dropout", "1"), ("--num-layers", "0"),
    ("--num-heads", "0"), ("--pooling", "sum"), ("--pooling", "max+max"), ("--reset", "never"),
    ("--forget-bias", "nan"), ("--forget-bias", "x"), ("--recipe", "deep"),
]  # fmt: skip


@pytest.mark.parametrize("option", BAD_OPTIONS, ids=" ".join)
@pytest.mark.parametrize("recipe", [False, True], ids=["alone", "with a recipe"])
def test_a_bad_option_is_named(
    tmp_path: Path, option: tuple[str, ...], recipe: bool, capsys: Capture
) -> None:
    assert train(tmp_path / "run", *option, recipe=recipe) == 2
    error = refusal(capsys.readouterr().err, "npnlp").lower()
    word = option[0].strip("-")
    named = (word, word.replace("-", "_"), word.removeprefix("ngram-"))
    assert any(name in error for name in named), error
    assert not (tmp_path / "run").exists()


TOGETHER: list[tuple[tuple[str, ...], str]] = [
    (("--cell", "transformer", "--bidirectional"), "leave out bidirectional"),
    (("--class-weights", "balanced", "--consistency", "1"), "class_weights 'balanced'"),
    (("--class-weights", "inverse", "--merge-repeats"), "class_weights 'inverse'"),
    (("--class-weights", "inverse", "--logit-adjustment", "1"), "class_weights 'inverse'"),
    (("--optimizer", "sgd", "--weight-decay", "0.1"), "weight_decay is 0.1, but only adam"),
    (("--cell", "transformer", "--num-heads", "5"), "num_heads is 5"),
    (("--ngram-orders", "8", "--cell", "gru", "--num-layers", "0"), "num_layers"),
]


@pytest.mark.parametrize(("options", "says"), TOGETHER, ids=[" ".join(o) for o, _ in TOGETHER])
def test_options_that_do_not_go_together_are_one_line(
    tmp_path: Path, options: tuple[str, ...], says: str, capsys: Capture
) -> None:
    assert train(tmp_path / "run", *options, recipe=False) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    refusal(printed.err, "npnlp train:", says)
    assert not (tmp_path / "run").exists()


#: Options that could change nothing.
IDLE = [
    ("--nonlinearity", "relu", "--cell", "gru"), ("--reset", "before"), ("--reset", "after"),
    ("--forget-bias", "1"), ("--num-heads", "2"), ("--rnn-dropout", "0.2"),
    ("--rnn-dropout", "0.2", "--cell", "lstm"), ("--variational",),
    ("--variational", "--num-layers", "2"),
    ("--variational", "--cell", "transformer", "--rnn-dropout", "0.1"), ("--ngram-size", "3"),
    ("--ngram-dropout", "0.1"), ("--momentum", "0.9"), ("--beta2", "0.9", "--optimizer", "sgd"),
    ("--weight-decay", "0.1", "--optimizer", "sgd"), ("--warm-up", "0.3"),
    ("--early-stopping-criteria", "3", "--schedule", "onecycle"),
    ("--warm-up", "0.1", "--recipe", "wide", "--schedule", "plateau"),
]  # fmt: skip


@pytest.mark.parametrize("options", IDLE, ids=" ".join)
def test_an_option_that_cannot_apply_is_refused(
    tmp_path: Path, options: tuple[str, ...], capsys: Capture
) -> None:
    assert train(tmp_path / "run", *options, recipe=False) == 2
    name = options[0].removeprefix("--").replace("-", "_")
    refusal(capsys.readouterr().err, "npnlp train:", f"{name} is ", ", but ", "; leave it out")
    assert not (tmp_path / "run").exists()


def test_what_a_recipe_brings_and_what_is_off_may_be_idle(tmp_path: Path) -> None:
    """The recipe's ``warm_up`` goes with its schedule; a momentum of 0 is none."""
    options = ("--schedule", "plateau", "--momentum", "0", "--no-variational", "--quick")
    assert train(tmp_path / "run", *options, "--quiet") == 0


def test_class_weights_do_not_go_with_the_recipe(tmp_path: Path, capsys: Capture) -> None:
    assert train(tmp_path / "run", "--class-weights", "inverse") == 2
    refusal(capsys.readouterr().err, "class_weights 'inverse'", "use none")


def test_no_name_is_long_enough_for_the_ngrams(tmp_path: Path, capsys: Capture) -> None:
    rows = [(label, split, "V" + "iml"[place]) for place, label in enumerate(("A", "B", "C"))
            for split in ("train", "val", "test")]  # fmt: skip
    table = write_table(tmp_path / "short.csv", rows)
    status = run_main("train", "--surname-csv", table, "--save-dir", tmp_path / "run", *TINY,
                      "--ngram-orders", "8")  # fmt: skip
    assert status == 2
    refusal(capsys.readouterr().err, "num_ngrams is 0")
    assert not (tmp_path / "run").exists()


def test_no_ngram_is_in_enough_names(tmp_path: Path, capsys: Capture) -> None:
    assert train(tmp_path / "run", "--ngram-min-count", "1000") == 2
    refusal(capsys.readouterr().err, "num_ngrams is 0", "is in 1000 or more names", "smaller")


@pytest.mark.parametrize(
    "options",
    [("--optimizer", "sgd", "--weight-decay", "0", "--learning-rate", "1e30", "--cell", "elman",
      "--nonlinearity", "relu"), ("--learning-rate", "1e30"), ("--learning-rate", "3e38")],
    ids=["sgd", "adam", "at the edge"],
)  # fmt: skip
def test_a_soft_loss_that_explodes_is_one_line_and_status_1(
    tmp_path: Path, options: tuple[str, ...], capsys: Capture
) -> None:
    assert train(tmp_path / "run", "--clip-norm", "1e30", *options, "--quiet") == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    refusal(printed.err, "npnlp train: epoch 1", "--learning-rate", "--clip-norm")


def test_a_number_that_is_not_finite_stops_before_the_weights_change(tmp_path: Path) -> None:
    trainer = make_wide(tmp_path / "run").trainer
    trainer.model.fc2.parameters["bias"][0] = np.nan
    before = trainer.model.flat.values.copy()
    with pytest.raises(DivergenceError, match=r"epoch 1, batch 1: weight fc2\.bias\[0\] is nan"):
        trainer.run_epoch()
    np.testing.assert_array_equal(trainer.model.flat.values, before)


FLOWS: dict[str, tuple[tuple[str, ...], int, list[str]]] = {
    "lstm": (
        ("--cell", "lstm", "--num-layers", "2", "--bidirectional", "--pooling", "max+mean"), 4,
        ["candidate", "forget", "input", "output"],
    ),
    "transformer": (("--cell", "transformer", "--num-layers", "2", "--num-heads", "3"), 2,
                    ["head 0", "head 1", "head 2"]),
}  # fmt: skip


def check_picture(path: Path) -> None:
    pixels = matplotlib.image.imread(path)
    assert pixels.shape[0] >= 500
    assert pixels.shape[1] >= 1000
    assert len(np.unique(pixels[:, :, :3] @ np.array([1.0, 1e3, 1e6]))) > 20


@pytest.mark.parametrize("cell", list(FLOWS))
def test_the_gradient_flow_of_a_model_by_layer_and_by_part(
    tmp_path: Path, cell: str, capsys: Capture
) -> None:
    options, layers, parts = FLOWS[cell]
    folder = tmp_path / "run"
    assert train(folder, *options, "--num-epochs", "1", "--quiet", recipe=False) == 0
    before = tree(folder)
    table = tmp_path / "repeats.csv"
    assert run_main("gradient-flow", "--save-dir", folder, "--surname-csv", table) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    new = {"gradient_flow_model.csv", "gradient_flow_model.png", "flow_by_part_model.csv",
           "flow_by_part_model.png"}  # fmt: skip
    assert set(tree(folder)) == set(before) | new
    assert {k: v for k, v in tree(folder).items() if k not in new} == before
    flow = pd.read_csv(folder / "gradient_flow_model.csv")
    assert flow["layer"].nunique() == layers
    assert np.isfinite(flow["hidden_grad_mean"]).all()
    assert all(f"{name}: " in printed.out for name in flow["layer"].unique())
    by_part = pd.read_csv(folder / "flow_by_part_model.csv")
    assert set(by_part["layer"]) == set(flow["layer"])
    assert by_part.groupby("layer")["part"].nunique().tolist() == [len(parts)] * layers
    assert len(by_part) == layers * len(parts) * flow["lag"].nunique()
    for name in new:
        if name.endswith(".png"):
            check_picture(folder / name)
    assert sorted(by_part["part"].unique()) == parts
    history = pd.read_csv(folder / "gradient_flow.csv")
    assert set(history["layer"]) == set(flow["layer"])
