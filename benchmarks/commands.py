"""What the commands on the pages take: processor seconds of one core, of each with all it starts.

Each runs in a folder of its own beside the files that it reads. One that has not ended after
``--at-most`` seconds is stopped, and noted as not done. What an earlier run noted in the folder of
``--out`` is kept and not measured again. ``tools/command_times.py`` writes the times beside the
commands.
"""

from __future__ import annotations

import contextlib
import csv
import os
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from npnlp.cli.script import guarded, script_parser
from npnlp.errors import InputError
from npnlp.files import write_csv
from npnlp.text import own_table_path

ROOT = Path(__file__).resolve().parents[1]
#: README's first line; it runs in a copy of the project, and its downloads take no processor time.
SET_UP = (
    "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/python experiments/surnames.py"
)
#: What of the project's folder is copied for it.
COPIED = ("npnlp", "experiments", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")
#: Commands as the pages show them, and how each is run where a page leaves something to the reader
#: or writes where a run is already.
COMMANDS: dict[str, str] = {
    "npnlp backends": "",
    "npnlp train": "npnlp train --quiet --save-dir runs/t",
    "npnlp predict Nakamoto McMahan --top-k 3": "",
    "npnlp predict --input names.csv --output answers.csv": "",
    "npnlp predict NAME...": "npnlp predict Nakamoto",
    "npnlp explain NAME": "npnlp explain Nakamoto",
    "npnlp evaluate": "",
    "npnlp gradient-flow": "",
    "npnlp gradcheck": "",
    "npnlp train --surname-csv table.csv --recipe light --save-dir runs/mine": (
        "npnlp train --surname-csv table.csv --recipe light --save-dir runs/m"
    ),
    "npnlp export --save-dir runs/mine --format onnx": "",
    "npnlp train --recipe light --surname-csv FILE": "npnlp train --recipe light --save-dir runs/l",
    "npnlp train --recipe wide --surname-csv FILE": "npnlp train --recipe wide --save-dir runs/w",
    "npnlp train --seeds 10 --save-dir runs/gru --cell gru": "",
    "npnlp page": "",
    "npnlp page --save-dir runs/surnames --output page.html": "",
    "npnlp page --save-dir runs/elman --compare runs/lstm --output two.html": "",
    "npnlp compare RUN RUN": "npnlp compare runs/elman runs/lstm",
    SET_UP: "",
    "python experiments/surnames.py": "python experiments/surnames.py --save-dir runs/s --quiet",
    **{
        f"python {script}": ""
        for script in (
            "tools/unrolled_picture.py", "experiments/chain_rule.py",
            "experiments/class_weights.py", "experiments/familiarity.py --surname-csv FILE",
            "experiments/pairs.py --surname-csv FILE",
            "experiments/letter_case.py --surname-csv FILE", "benchmarks/first_batch.py",
            "benchmarks/sequence_lengths.py --truncate 100", "benchmarks/inference.py",
            "benchmarks/roofline.py", "experiments/vanishing_gradients.py",
            "experiments/typing_errors.py --surname-csv FILE", "experiments/book_protocol.py",
            "benchmarks/determinism.py", "experiments/probabilities.py --surname-csv FILE",
            "benchmarks/against_frameworks.py",
            "experiments/recipe_ablation.py --surname-csv FILE",
            "experiments/compare_models.py --other-seeds 3",
            "experiments/long_term_dependencies.py", "experiments/mean_field.py",
            "experiments/runtimes.py", "experiments/scale.py", "benchmarks/onnx_forms.py",
        )
    },
}  # fmt: skip
QUICK = ("npnlp backends",)


def arguments_of(command: str) -> list[str]:
    """What starts a command in a folder that has the tables."""
    if command == SET_UP:
        return ["bash", "-c", command]
    first, *rest = shlex.split((COMMANDS[command] or command).replace("FILE", "table.csv"))
    if first == "npnlp":
        return [sys.executable, "-m", "npnlp", *rest]
    return [sys.executable, str(ROOT / rest[0]), *rest[1:]]


def measure(command: str, folder: Path, at_most: float) -> dict[str, object]:
    """Run a command on one core; its row, with the processor time until it ended or was stopped."""
    if command == SET_UP:
        folder /= "copy"
        folder.mkdir()
        for name in COPIED:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, folder / name)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen(
        arguments_of(command), cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        text=True, start_new_session=True, env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        _, said = process.communicate(timeout=at_most)
        done = True
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        done, said = False, ""
    if done and process.returncode:
        raise InputError(f"status {process.returncode}: {said.strip()[-200:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"command": command, "processor_seconds": round(seconds, 2), "done": done,
            "machine": machine()}  # fmt: skip


@contextlib.contextmanager
def on_one_core() -> Iterator[None]:
    """What is started inside has one core, where the system lets a process choose."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def machine() -> str:
    """The name of the processor."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "unknown"


def prepare(folder: Path) -> None:
    """The tables and runs that commands read."""
    shutil.copy(own_table_path(), folder / "table.csv")
    rows = (folder / "table.csv").read_text(encoding="utf-8").splitlines()[1:]
    names = [row.rpartition(",")[2] for row in rows]
    (folder / "names.csv").write_text("\n".join(["surname", *names, ""]), encoding="utf-8")
    for name in ("surnames", "mine", "elman"):
        train(folder, name)
    train(folder, "lstm", "--cell", "lstm")


def train(folder: Path, name: str, *options: str) -> None:
    """A run of two epochs."""
    subprocess.run(
        [sys.executable, "-m", "npnlp", "train", "--quick", "--quiet", "--save-dir",
         f"runs/{name}", *options], cwd=folder, check=True,
    )  # fmt: skip


def noted(path: Path) -> list[dict[str, object]]:
    """The rows of an earlier run."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def main() -> int:
    """Measure, and write a row a command as soon as it is there."""
    parser = script_parser(__doc__, "out/commands")
    parser.add_argument("--at-most", type=float, default=600, metavar="S",
                        help="stop a command after this many seconds")  # fmt: skip
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "commands.csv"
    rows = [row for row in noted(path) if row["command"] in COMMANDS]
    known = {row["command"] for row in rows}
    with tempfile.TemporaryDirectory() as name:
        folder, failed = Path(name), False
        if not options.quick:
            prepare(folder)
        todo = [c for c in (QUICK if options.quick else COMMANDS) if c not in known]
        for command in tqdm(todo, disable=None):
            try:
                with on_one_core():
                    rows.append(measure(command, folder, options.at_most))
            except InputError as error:
                print(f"not measured: {command}: {error}", file=sys.stderr, flush=True)
                failed = True
                continue
            write_csv(path, rows)
            print(f"{rows[-1]['processor_seconds']:8} s  {command}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(guarded("commands.py", main))
