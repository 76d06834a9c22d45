"""Every script runs with --quick, writes what it says, shows its defaults and refuses bad input."""

from __future__ import annotations

import importlib.util
import runpy
import subprocess
import sys
from collections.abc import Callable, Collection
from pathlib import Path

import pandas as pd
import pytest

from tests.support.mpi import ALLOWED, MISSING
from tests.support.tables import environment, refusal

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted([*ROOT.glob("experiments/*.py"), *ROOT.glob("benchmarks/*.py")])
#: These need the peers: PyTorch, or Numba and onnx, which are installed beside it.
NEEDS_TORCH = {
    "against_frameworks.py", "first_batch.py", "inference.py", "onnx_forms.py", "runtimes.py",
}  # fmt: skip
#: These measure a CUDA device; without one they say so in a line, with status 2, and write nothing.
NEEDS_DEVICE = {"gpu.py", "first_day.py"}
#: These need Dask; without it they say so in the same way.
NEEDS_DASK = {"scale.py"}
#: These start ranks with mpiexec; without mpi4py or an MPI they say so in the same way.
NEEDS_MPI = {"distributed.py"}
WRITES = {
    "surnames.py": ("model.safetensors", "history.csv", "learning_curves.png"),
    "book_protocol.py": ("book_protocol.csv", "book_protocol_runs.csv", "book_protocol.png"),
    "class_weights.py": ("class_weights.csv", "class_weights.png"),
    "letter_case.py": ("letter_case.csv",),
    "familiarity.py": ("familiarity.csv",),
    "probabilities.py": ("probabilities.csv",),
    "pairs.py": ("pairs.csv",),
    "typing_errors.py": ("typing_errors.csv",),
    "compare_models.py": (
        "models.csv", "summary.csv", "by_nationality.csv", "compare_models.png",
    ),
    "recipe_ablation.py": (
        "recipe_ablation_runs.csv", "recipe_ablation.csv", "recipe_ablation.png",
    ),
    "own_table.py": ("own_table.csv", "own_table_overlap.csv", "own_table.png"),
    "against_frameworks.py": ("epochs.csv", "environment.json"),
    "sequence_lengths.py": ("sequence_lengths.csv", "sequence_lengths.png", "environment.json"),
    "long_term_dependencies.py": (
        "long_term_dependencies.csv", "memory_horizons.csv", "long_term_dependencies.png",
    ),
    "chain_rule.py": (
        "chain_rule_products.csv", "chain_rule_products.png",
        "chain_rule_derivatives.csv", "chain_rule_step_sizes.csv", "chain_rule_derivatives.png",
        "chain_rule_descent.csv", "chain_rule_descent.png",
        "chain_rule_elman_step.csv",
    ),
    "vanishing_gradients.py": (
        *(f"vanishing_{name}.{kind}" for kind in ("csv", "png") for name in (
            "starts", "factors", "jacobians", "surnames", "epochs", "clipping",
        )), "vanishing_scores.csv", "sentences.json",
    ),
    "mean_field.py": ("mean_field.csv", "mean_field_names.csv", "mean_field.png"),
    "probe_cost.py": ("probe_cost.csv",),
    "scale.py": ("scale.csv", "environment.json"),
    "runtimes.py": ("runtimes.csv", "shorter_numbers.csv", "environment.json"),
    "onnx_forms.py": ("onnx_forms.csv", "environment.json"),
    "recipe.py": ("recipe_epochs.csv", "recipe_memory.csv", "environment.json"),
    "first_batch.py": ("first_batch.csv",),
    "roofline.py": ("roofline.csv", "environment.json"),
    "rows.py": ("rows.csv", "environment.json"),
    "inference.py": ("inference.csv", "environment.json"),
    "determinism.py": ("determinism.csv",),
    "commands.py": ("commands.csv",),
    "gpu.py": ("gpu.csv", "gpu.png", "environment.json"),
    "first_day.py": ("parts.csv", "recurrence.csv", "main_job.csv", "environment.json"),
    "distributed.py": ("distributed.csv", "distributed.png", "environment.json"),
}  # fmt: skip
#: The option by which a script takes a table of surnames; the others take none.
TABLE_OPTION = {
    "surnames.py": "--surname-csv",
    "book_protocol.py": "--surname-csv",
    "class_weights.py": "--surname-csv",
    "letter_case.py": "--surname-csv",
    "familiarity.py": "--surname-csv",
    "probabilities.py": "--surname-csv",
    "pairs.py": "--surname-csv",
    "typing_errors.py": "--surname-csv",
    "compare_models.py": "--surname-csv",
    "recipe_ablation.py": "--surname-csv",
    "own_table.py": "--reference",
    "against_frameworks.py": "--surname-csv",
    "vanishing_gradients.py": "--surname-csv",
    "mean_field.py": "--surname-csv",
    "probe_cost.py": "--surname-csv",
    "scale.py": "--surname-csv",
    "runtimes.py": "--surname-csv",
    "onnx_forms.py": "--surname-csv",
    "recipe.py": "--surname-csv",
    "first_batch.py": "--surname-csv",
    "roofline.py": "--surname-csv",
    "rows.py": "--surname-csv",
    "inference.py": "--surname-csv",
    "distributed.py": "--surname-csv",
    "determinism.py": "--surname-csv",
}

#: What their quick case takes is long, too.
LONG = {
    "against_frameworks.py", "determinism.py", "first_batch.py", "inference.py", "recipe.py",
    "roofline.py", "rows.py", "vanishing_gradients.py",
}  # fmt: skip


def of_every_script(slow: Collection[str] = ()) -> pytest.MarkDecorator:
    """A case for each script, those of ``slow`` left to the longer run."""
    no_torch = importlib.util.find_spec("torch") is None
    of_torch = [
        pytest.mark.peers, pytest.mark.skipif(no_torch, reason="PyTorch is not installed"),
    ]  # fmt: skip
    return pytest.mark.parametrize(
        "script",
        [
            pytest.param(
                script,
                marks=[
                    *(of_torch if script.name in NEEDS_TORCH else []),
                    *([pytest.mark.slow] if script.name in slow else []),
                ],
            )
            for script in SCRIPTS
        ],
        ids=lambda script: script.name,
    )


every_script = of_every_script()


def run(script: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(script), *arguments], capture_output=True, text=True, check=False,
        env=environment(**ALLOWED),
    )  # fmt: skip


@pytest.fixture
def run_here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run a script in this process, which is quicker: its status, output and errors."""

    def run(script: Path, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.syspath_prepend(str(script.parent))
        monkeypatch.setattr(sys, "argv", [str(script), *arguments])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(script), run_name="__main__")
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", "")).startswith(str(script.parent)):
                del sys.modules[name]  # another folder may have one of that name
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out, err

    return run


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A twentieth of the project's own table, every nationality in every split."""
    frame = pd.read_csv(ROOT / "npnlp/data/surnames.csv", keep_default_na=False)
    path = tmp_path / "small.csv"
    frame.groupby(["nationality", "split"]).head(6).to_csv(path, index=False)
    return path


def test_each_script_is_known_here() -> None:
    assert {script.name for script in SCRIPTS} == set(WRITES)


@of_every_script(LONG)
def test_quick_run_writes_its_files(
    script: Path, table: Path, tmp_path: Path, run_here: Callable[..., tuple[int, str, str]]
) -> None:
    option = TABLE_OPTION.get(script.name)
    reads = [] if option is None else [option, str(table)]
    arguments = ("--quick", "--out", str(tmp_path / "out"), *reads)
    needs = NEEDS_TORCH | NEEDS_DEVICE | NEEDS_MPI | NEEDS_DASK
    if script.name not in needs | LONG | {"surnames.py"}:
        status, _, err = run_here(script, *arguments)
        assert status == 0, err
        written(script, tmp_path / "out")
        return
    done = run(script, *arguments)
    if script.name in NEEDS_DEVICE and done.returncode == 2:
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"{script.name}: backend cupy: ")
        assert not (tmp_path / "out").exists()
        pytest.skip(line)
    if script.name in NEEDS_DASK and importlib.util.find_spec("dask") is None:
        refusal(done.stderr, "scale.py: ", "'dask[dataframe]' distributed")
        assert not (tmp_path / "out").exists()
        pytest.skip("Dask is not installed")
    if script.name in NEEDS_MPI and MISSING:
        refusal(done.stderr, "distributed.py: ", "pip install mpi4py")
        assert not (tmp_path / "out").exists()
        pytest.skip(MISSING)
    assert done.returncode == 0, done.stderr
    written(script, tmp_path / "out")


def written(script: Path, folder: Path) -> None:
    for name in WRITES[script.name]:
        path = folder / name
        assert path.stat().st_size > 0
        if path.suffix == ".csv":
            assert len(pd.read_csv(path)) > 0
        if path.suffix == ".png":
            assert path.read_bytes().startswith(b"\x89PNG")


@every_script
def test_help_shows_the_common_options_with_defaults(
    script: Path, run_here: Callable[..., tuple[int, str, str]]
) -> None:
    status, out, _ = run_here(script, "--help")
    assert status == 0
    assert all(option in out for option in ("--out", "--seed", "--quick", "default: "))


@every_script
def test_bad_table_is_one_line_and_status_2(
    script: Path, tmp_path: Path, run_here: Callable[..., tuple[int, str, str]]
) -> None:
    option = TABLE_OPTION.get(script.name)
    if option is None:
        pytest.skip("reads no table")
    missing = tmp_path / "missing.csv"
    status, _, err = run_here(script, "--quick", "--out", str(tmp_path / "out"), option,
                              str(missing))  # fmt: skip
    assert status == 2
    assert err.count("\n") == 1
    assert str(missing) in err
    assert not (tmp_path / "out").exists()
