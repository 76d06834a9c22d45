"""The same with real processes of ``mpiexec``: runs, files, failures, and how they are said."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from npnlp.files.tensors import load_tensors
from tests.support.distributed import CASES, check_close, make_trainer, of_the_model, outcome
from tests.support.mpi import ALLOWED, MISSING, mpiexec
from tests.support.tables import (
    CLOCK,
    FILES,
    ROOT,
    SMALL,
    command,
    environment,
    refusal,
    small_dataset,
    train_small,
    write_table,
)

pytestmark = [pytest.mark.mpi, pytest.mark.skipif(bool(MISSING), reason=MISSING)]


def start(ranks: int, *arguments: str | Path) -> subprocess.Popen[str]:
    line = [str(mpiexec()), "-n", str(ranks), *map(str, arguments)]
    return subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        env=environment(**ALLOWED),
    )  # fmt: skip


def run(ranks: int, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    process = start(ranks, *arguments)
    out, err = process.communicate(timeout=900)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def ours(err: str) -> str:
    """What npnlp said on standard error; the rest is the launcher's."""
    return "".join(f"{line}\n" for line in err.splitlines() if "npnlp" in line)


def train(folder: Path, *options: str | Path, epochs: int = 3) -> list[str]:
    """The command that :func:`train_small` runs, shared by ranks."""
    table = folder.parent / "small.csv"
    if not table.exists():
        write_table(table)
    return command(
        "train", "--surname-csv", table, "--save-dir", folder, "--num-epochs", str(epochs),
        "--distributed", "mpi", *SMALL, *options,
    )  # fmt: skip


def all_cases(folder: Path, dtype: str) -> list[str]:
    """The program that every rank runs for all cases; the file for the results comes last."""
    return [sys.executable, "-m", "tests.support.distributed", str(folder / "small.csv"), dtype]


@pytest.mark.parametrize(
    ("ranks", "dtype"),
    [(1, "float64"), (2, "float64"), (3, "float64"), (4, "float64"), (2, "float32"),
     (4, "float32")],
)  # fmt: skip
def test_every_case_is_the_same_for_any_number_of_ranks(
    tmp_path: Path, ranks: int, dtype: str
) -> None:
    dataset = small_dataset(tmp_path)
    done = run(ranks, *all_cases(tmp_path, dtype), tmp_path / "found.npz")
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "found.npz") as file:
        arrays = dict(file)
    for case in CASES:
        found = {name.removeprefix(f"{case}/"): value for name, value in arrays.items()
                 if name.startswith(f"{case}/")}  # fmt: skip
        trainer = make_trainer(dataset, case, np.dtype(dtype))
        expected, half = outcome(trainer), trainer.config.store == "float16"
        if dtype == "float64":
            check_close(found, expected, 1e-12)
        else:  # a weight that is stored in half precision may be rounded to its neighbour
            check_close(of_the_model(found), of_the_model(expected), 1e-4 if half else 1e-6)


def test_the_same_ranks_repeat_to_the_bit(tmp_path: Path) -> None:
    write_table(tmp_path / "small.csv")
    for name in ("one.npz", "other.npz"):
        assert run(3, *all_cases(tmp_path, "float32"), tmp_path / name).returncode == 0
    with np.load(tmp_path / "one.npz") as one, np.load(tmp_path / "other.npz") as other:
        assert set(one) == set(other)
        for name in one:
            assert one[name].tobytes() == other[name].tobytes(), name


def check_same_training(found: Path, expected: Path) -> None:
    """Check that two runs of the command came to the same, to single precision."""
    (one, values), (other, _) = (
        load_tensors(folder / "last.safetensors", "npnlp checkpoint")
        for folder in (found, expected)
    )
    check_close(of_the_model(one), of_the_model(other), 1e-6)
    assert values["state"]["progress"]["epoch"] == 3
    histories = [
        pd.read_csv(folder / "history.csv").drop(columns=CLOCK).to_numpy()
        for folder in (found, expected)
    ]
    np.testing.assert_allclose(histories[0], histories[1], rtol=1e-5)


def test_the_command_trains_with_ranks_and_speaks_once(tmp_path: Path) -> None:
    assert train_small(tmp_path / "alone") == 0
    done = run(3, *train(tmp_path / "run"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Trained 3 epochs") == 1
    assert {path.name for path in (tmp_path / "run").iterdir()} == FILES
    check_same_training(tmp_path / "run", tmp_path / "alone")
    flows = [
        pd.read_csv(tmp_path / name / "gradient_flow.csv").drop(columns="layer").to_numpy()
        for name in ("run", "alone")
    ]
    np.testing.assert_allclose(flows[0], flows[1], rtol=1e-4, atol=1e-7)


def test_a_run_is_resumed_with_another_number_of_ranks(tmp_path: Path) -> None:
    assert train_small(tmp_path / "alone") == 0
    assert run(3, *train(tmp_path / "run", epochs=1)).returncode == 0
    done = run(2, *train(tmp_path / "run", "--resume", epochs=2))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Resuming: 1 epochs done") == 1
    assert train_small(tmp_path / "run", "--resume") == 0  # and by one process without MPI
    check_same_training(tmp_path / "run", tmp_path / "alone")


def test_a_wrong_option_is_said_once(tmp_path: Path) -> None:
    done = run(3, *train(tmp_path / "run", "--cell", "lost"))
    assert done.returncode == 2
    refusal(ours(done.stderr), "--cell", "lost")
    assert not (tmp_path / "run").exists()


def test_bad_input_is_said_once(tmp_path: Path) -> None:
    done = run(3, *train(tmp_path / "run", "--learning-rate", "-1"))
    assert done.returncode == 2
    refusal(ours(done.stderr), "learning_rate")
    assert not (tmp_path / "run").exists()


def test_a_table_is_read_by_one_rank_and_what_is_wrong_with_it_said_once(tmp_path: Path) -> None:
    reads = """
import sys
from npnlp.cli import main, train
from npnlp.cli.failure import launched
from npnlp.text import SurnameDataset

make, rank = SurnameDataset.load_dataset_and_make_vectorizer, launched()[0]

def noted(*arguments):
    print(f"rank {rank} reads", flush=True)
    return make(*arguments)

SurnameDataset.load_dataset_and_make_vectorizer = noted
sys.exit(main(sys.argv[1:]))
"""
    arguments = train(tmp_path / "run", epochs=1)[3:]
    done = run(3, sys.executable, "-c", reads, *arguments)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if "reads" in line] == ["rank 0 reads"]
    (tmp_path / "small.csv").write_text("surname,nationality\nRossi,\n", encoding="utf-8")
    done = run(3, sys.executable, "-c", reads, *arguments, "--overwrite")
    assert done.returncode == 2
    refusal(ours(done.stderr), "small.csv: row 2, column nationality")


def test_divergence_is_said_once(tmp_path: Path) -> None:
    done = run(2, *train(tmp_path / "run", "--optimizer", "sgd", "--learning-rate", "1e30"))
    assert done.returncode == 1
    refusal(ours(done.stderr), "epoch 1, batch 2", "npnlp replay")


def test_processes_that_were_not_told_of_each_other_are_refused(tmp_path: Path) -> None:
    done = run(2, *(word for word in train(tmp_path / "run") if word not in ("--distributed",
                                                                          "mpi")))  # fmt: skip
    assert done.returncode == 2
    refusal(ours(done.stderr), "2 processes", "--distributed mpi")
    assert not (tmp_path / "run").exists()


#: Runs the command; rank 1 fails as it is told, at its fifth batch.
FAILING = """
import os, sys
from npnlp.cli import main
from npnlp.errors import InputError
from npnlp.training.trainer import Trainer

step, steps = Trainer.step, 0

def fails(self, batch):
    global steps
    steps += 1
    if self.ranks.rank == 1 and steps == 5:
        {failure}
    step(self, batch)

Trainer.step = fails
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("failure", "status", "words"),
    [
        ("raise ZeroDivisionError('a planted error')", 1, ["ZeroDivisionError: a planted error"]),
        ("raise InputError('a planted refusal')", 2, ["a planted refusal"]),
        ("raise MemoryError", 2, ["MemoryError"]),
    ],
)
def test_a_rank_that_fails_ends_all_with_one_line(
    tmp_path: Path, failure: str, status: int, words: list[str]
) -> None:
    arguments = train(tmp_path / "run")[3:]
    program = FAILING.format(failure=failure)
    done = run(3, sys.executable, "-c", program, *arguments)
    assert done.returncode == status, done.stderr
    refusal(ours(done.stderr), "rank 1 of 3", *words)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_is_killed_ends_all_with_a_word_of_resume(tmp_path: Path, rank: int) -> None:
    arguments = train(tmp_path / "run")[3:]
    program = FAILING.format(failure="os.kill(os.getpid(), 9)")
    program = program.replace("self.ranks.rank == 1", f"self.ranks.rank == {rank}")
    done = run(3, sys.executable, "-c", program, *arguments)
    assert done.returncode != 0
    refusal(ours(done.stderr), "a rank was killed", "last.safetensors", "--resume")
    assert (tmp_path / "run" / "last.safetensors").exists()
    assert run(2, *train(tmp_path / "run", "--resume")).returncode == 0


def test_ctrl_c_to_one_rank_stops_all_after_saving(tmp_path: Path) -> None:
    assert train_small(tmp_path / "alone") == 0
    arguments = train(tmp_path / "run")[3:]
    program = FAILING.format(failure=f"os.kill(os.getpid(), {int(signal.SIGINT)})")
    done = run(2, sys.executable, "-c", program, *arguments)
    assert done.returncode == 130, done.stderr
    refusal(ours(done.stderr), "in epoch 2 after batch 3", "--resume")
    assert run(2, *train(tmp_path / "run", "--resume")).returncode == 0
    check_same_training(tmp_path / "run", tmp_path / "alone")
