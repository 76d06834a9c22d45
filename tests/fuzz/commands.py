"""The real command, in a process of its own each time, without the start of Python each time.

``python -m tests.fuzz.commands`` imports everything once. Then it reads a line a command, the
arguments as JSON, forks, and lets the child run it; it answers with the status and what the child
printed. A child that computes without end is killed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.targets import ROWS
from tests.support.tables import ROOT, environment, tree, write_table

#: Seconds of computing after which a command is killed; they take some hundredths.
NO_END = 60


@dataclass(frozen=True)
class Done:
    status: int
    out: str
    err: str


class Server:
    """Runs commands one after another."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def run(self, arguments: Sequence[str | Path]) -> Done:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([str(argument) for argument in arguments]) + "\n")
        self.process.stdin.flush()
        return Done(*json.loads(self.process.stdout.readline()))


@contextmanager
def server() -> Iterator[Server]:
    command = [sys.executable, "-m", "tests.fuzz.commands"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        env=environment(PYTHONPATH=str(ROOT)),
    ) as process:  # fmt: skip
        yield Server(process)
        process.communicate()


def serve() -> None:
    import resource  # this and fork are POSIX's

    import npnlp.cli
    import npnlp.runs.card

    for line in sys.stdin:
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            child = os.fork()
            if not child:
                resource.setrlimit(resource.RLIMIT_CPU, (NO_END, NO_END))
                os.dup2(out.fileno(), 1)
                os.dup2(err.fileno(), 2)
                sys.argv = ["npnlp", *json.loads(line)]
                try:
                    status = npnlp.cli.main(json.loads(line))
                except SystemExit as stop:
                    status = int(stop.code or 0)
                except BaseException:
                    sys.excepthook(*sys.exc_info())
                    status = 99
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
            _, code = os.waitpid(child, 0)
            texts = []
            for file in (out, err):
                file.seek(0)
                texts.append(file.read().decode("utf-8", "replace"))
            print(json.dumps([os.waitstatus_to_exitcode(code), *texts]), flush=True)


# --- which command reads which file

#: The options of :func:`tests.fuzz.targets.small_run`.
SAME = ("--num-epochs", "3", "--batch-size", "2", "--seed", "5", "--class-weights", "inverse",
        "--char-embedding-size", "2", "--rnn-hidden-size", "2", "--quiet")  # fmt: skip


def command_for(name: str, folder: Path) -> tuple[Path, tuple[str | Path, ...]]:
    """Where the damaged file of a target goes, and the command that reads it."""
    table, run, new, file = folder / "t.csv", folder / "run", folder / "new", folder / "file"
    vectorizer = run / "vectorizer.json"
    train = ("train", "--surname-csv", table, "--save-dir", run, *SAME)
    return {
        "dataset": (table, ("train", "--surname-csv", table, "--save-dir", new, *SAME)),
        "table": (table, ("evaluate", "--save-dir", run, "--surname-csv", table)),
        "vectorizer": (vectorizer, (*train, "--reload-from-files")),
        "model": (run / "model.safetensors", ("predict", "--save-dir", run, "ab")),
        "checkpoint": (run / "last.safetensors", (*train, "--resume")),
        "replay": (file, ("replay", file)),
        "import": (file, ("import", file, "--vectorizer-file", vectorizer, "--save-dir", new)),
    }[name]


def wrong_command(done: Done, name: str, path: Path) -> str:
    """What is wrong with how a command took a file that its reader refuses; or nothing."""
    command = done.err.partition(":")[0]
    right = (
        done.status == 2
        and done.out == ""
        and done.err.count("\n") == 1
        and done.err.startswith(f"{command}: {path}: ")
        and done.err[:-1].isprintable()
        and command.startswith("npnlp ")
    )
    return "" if right else f"{name}: {done}"


def filled(folder: Path, samples: dict[str, bytes]) -> dict[str, bytes]:
    """Put whole files where the commands look for them; all files that are there now."""
    (folder / "run").mkdir()
    write_table(folder / "t.csv", ROWS)
    for name in ("vectorizer", "model", "checkpoint"):
        command_for(name, folder)[0].write_bytes(samples[name])
    return tree(folder)


if __name__ == "__main__":
    serve()
