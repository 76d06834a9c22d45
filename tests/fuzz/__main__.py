"""The long run: ``python -m tests.fuzz --inputs 1000000``.

First every bit of every header is flipped alone, then files are damaged at random; a table says
how each reader took them. Status 1 if there is a finding. Input k of a target is a function of the
target, the seed and k, so that ``--only TARGET --seed S --first K --inputs 1`` makes it again.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tqdm import tqdm

from tests.fuzz.mutations import header_flips, mutant
from tests.fuzz.targets import Target, Verdict, targets, verdict

#: The readers, and how many of ten thousand inputs each gets: more of the quick ones.
SHARES = {"table": 2200, "dataset": 300, "vectorizer": 2500, "tensors": 1500, "model": 900,
          "checkpoint": 700, "replay": 900, "import": 1000}  # fmt: skip
NAMES = tuple(SHARES)
SHOWN = 5


@dataclass
class Count:
    inputs: int = 0
    accepted: int = 0
    refused: int = 0
    findings: int = 0
    slowest: float = 0.0
    seconds: float = 0.0

    def add(self, found: Verdict, seconds: float) -> None:
        self.inputs += 1
        self.accepted += found.accepted
        self.refused += not found.accepted
        self.findings += bool(found.finding)
        self.slowest = max(self.slowest, found.seconds)
        self.seconds += seconds


def memory_folder() -> str | None:
    """Where files are not written to a disk, if there is such a place."""
    place = "/dev/shm"
    return place if os.access(place, os.W_OK) else None


def drawn(target: Target, seed: int, number: int) -> bytes:
    random = Random(f"{target.name} {seed} {number}")
    return mutant(target.format, random.choice(target.samples), random)


def inputs_of(target: Target, options: argparse.Namespace, count: int) -> Iterator[bytes]:
    """All header flips of the smallest sample, if they are asked for, then drawn damage."""
    if target.format == "safetensors" and not options.skip_flips:
        for content in header_flips(min(target.samples, key=len)):
            if not count:
                return
            count -= 1
            yield content
    for number in range(options.first, options.first + count):
        yield drawn(target, options.seed, number)


def shares(names: Sequence[str], inputs: int) -> dict[str, int]:
    """How many inputs each gets; all of them together are ``inputs``."""
    whole = sum(SHARES[name] for name in names)
    counts = {name: inputs * SHARES[name] // whole for name in names}
    counts[names[0]] += inputs - sum(counts.values())
    return counts


def run(options: argparse.Namespace) -> dict[str, Count]:
    names = options.only or NAMES
    counts = {name: Count() for name in names}
    with (
        tempfile.TemporaryDirectory() as samples,
        tempfile.TemporaryDirectory(dir=memory_folder()) as folder,
        tqdm(total=options.inputs, unit="file", disable=None) as bar,
    ):
        made = targets(Path(samples))
        for name, number in shares(names, options.inputs).items():
            bar.set_description(name)
            for place, content in enumerate(inputs_of(made[name], options, number)):
                started = time.process_time()
                found = verdict(made[name], content, Path(folder))
                counts[name].add(found, time.process_time() - started)
                bar.update()
                if found.finding and counts[name].findings <= SHOWN:
                    bar.write(f"{name}, input {place}: {found.finding}{content[:400]!r}\n")
    return counts


def table(counts: dict[str, Count]) -> list[str]:
    every = Count()
    for count in counts.values():
        for name in ("inputs", "accepted", "refused", "findings", "seconds"):
            setattr(every, name, getattr(every, name) + getattr(count, name))
        every.slowest = max(every.slowest, count.slowest)
    rows = {**counts, "all": every}
    head = ("reader", "inputs", "accepted", "refused", "findings", "slowest s", "a second")
    lines = [f"{head[0]:<12}" + "".join(f"{word:>11}" for word in head[1:])]
    for name, c in rows.items():
        numbers = f"{c.inputs:>11}{c.accepted:>11}{c.refused:>11}{c.findings:>11}"
        lines.append(f"{name:<12}{numbers}{c.slowest:>11.3f}{c.inputs / c.seconds:>11.0f}")
    return lines


def guided(options: argparse.Namespace) -> None:
    """Let atheris, which sees which lines are reached, think of the inputs of one reader."""
    atheris = importlib.import_module("atheris")  # who wants it installs it

    with tempfile.TemporaryDirectory() as samples, tempfile.TemporaryDirectory(
        dir=memory_folder()
    ) as folder:  # fmt: skip
        target = targets(Path(samples))[(options.only or NAMES)[0]]
        corpus = Path(samples) / "corpus"
        corpus.mkdir()
        for number, content in enumerate(target.samples):
            (corpus / str(number)).write_bytes(content)

        def one(content: bytes) -> None:
            found = verdict(target, content, Path(folder))
            if found.finding:
                raise AssertionError(found.finding)

        for name, module in list(sys.modules.items()):
            for function in vars(module).values() if name.startswith("npnlp.") else ():
                if inspect.isfunction(function) and function.__module__ == name:
                    atheris.instrument_func(function)
        atheris.Setup([sys.argv[0], f"-runs={options.inputs}", str(corpus)], one)
        atheris.Fuzz()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000, help="how many files")
    parser.add_argument("--seed", type=int, default=0, help="of the damage")
    parser.add_argument("--first", type=int, default=0, help="the number of the first drawn file")
    parser.add_argument("--only", nargs="+", choices=NAMES, help="these readers")
    parser.add_argument("--skip-flips", action="store_true", help="only drawn damage")
    parser.add_argument(
        "--atheris", action="store_true", help="the first reader, guided by atheris"
    )
    options = parser.parse_args(arguments)
    job: Callable[[argparse.Namespace], object] = guided if options.atheris else run
    found = job(options)
    if not isinstance(found, dict):
        return 0
    print("\n".join(table(found)))
    return int(any(count.findings for count in found.values()))


if __name__ == "__main__":
    sys.exit(main())
