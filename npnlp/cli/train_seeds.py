"""``npnlp train --seeds N``: the same training over several seeds, side by side or together."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

from npnlp.backend.threads import cores
from npnlp.cli.failure import DONE, FAILED, INTERRUPTED, failure_of, one_line
from npnlp.cli.script import ending
from npnlp.errors import InputError
from npnlp.runs.seeds import Seeds, Way, Work, folder_of, train_seeds
from npnlp.runs.shown import shown

#: Options that are of one run, and what they would be with several.
ALONE = {
    "reload_from_files": "each seed starts from weights of its own",
    "distributed": "each seed is a process of its own already",
    "threads": "each seed has one thread",
}


def add_seeds(group: Any) -> None:
    """``--seeds`` and ``--jobs``."""
    group.add_argument(
        "--seeds", type=int, metavar="N",
        help="train N models that differ in their seed alone, SEED to SEED+N-1, side by side, each "
        "in a folder of its own, and report mean and interval of every figure "
        "(default: one model, in the save directory itself)",
    )  # fmt: skip
    group.add_argument(
        "--jobs", type=int, metavar="N",
        help="how many of the seeds at a time, each a process (default: one a core; on a GPU small "
        "models are trained all in one launch, which --jobs turns off)",
    )  # fmt: skip


def require_seeds(options: argparse.Namespace) -> None:
    """Raise :class:`InputError` for options that exclude each other, or are out of range."""
    for name in ("seeds", "jobs"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise InputError(f"--{name} is {value}; give at least 1")
    if options.seeds is None:
        if options.jobs is not None:
            raise InputError("--jobs is of several seeds; add --seeds N, or leave it out")
        return
    for name, why in ALONE.items():
        if getattr(options, name):
            option = f"--{name.replace('_', '-')}"
            raise InputError(f"--seeds and {option} exclude each other: {why}; leave one out")


def run_seeds(options: argparse.Namespace, work: Work, say: Callable[[str], None]) -> int:
    """Train every seed and say what came of it; the status."""
    seeds = range(options.seed, options.seed + options.seeds)
    way, jobs = Way.of(work, seeds, options.save_dir, options.jobs), options.jobs
    if way.device is None:
        jobs = min(options.jobs or cores(), len(seeds))
        why = f"; not all in one launch: {way.why}" if way.why else ""
        say(f"Seeds: {seeds[0]} to {seeds[-1]}, {jobs} at a time{why}")
    else:
        say(f"Seeds: {seeds[0]} to {seeds[-1]}, all {len(seeds)} in one launch")
    with shown(seeds, work.training["num_epochs"], not options.quiet) as renew:

        def heard(seed: int, kind: str, value: Any) -> None:
            renew(seed, kind, value)
            if kind == "done":
                say(_line(seed, value))

        found = train_seeds(work, seeds, options.save_dir, jobs, heard, way)
    return _finish(found, options, say)


def _line(seed: int, result: Any) -> str:
    """What came of one seed."""
    if isinstance(result, dict):
        test, epochs = result["test"], result["timing"]["epochs"]
        scores = f"accuracy {test['accuracy']:.4f}, macro F1 {test['macro_f1']:.4f} on test"
        return f"  seed {seed}: {epochs} epochs, {scores}"
    return f"  seed {seed}: {'failed' if isinstance(result, Exception) else 'interrupted'}"


def _finish(found: Seeds, options: argparse.Namespace, say: Callable[[str], None]) -> int:
    if found.done:
        say("")
        say(f"{len(found.done)} seeds: mean ± half of the 95 % interval (Student's t)")
        for line in found.table():
            say(line)
        say("")
        for name in ("seeds.json", "seeds.csv"):
            say(f"wrote {options.save_dir / name}")
        say(f"wrote {len(found.done)} runs, {folder_of(options.save_dir, min(found.done))} "
            "and so on")  # fmt: skip
    for seed, error in found.failed.items():
        message, _ = failure_of(error) or (str(error), FAILED)
        print(f"npnlp train: seed {seed}: {one_line(message)}", file=sys.stderr)
    if found.interrupted:
        ending()
        print(f"npnlp train: interrupted; {len(found.done)} of {options.seeds} seeds are done, the "
              "others are saved; continue with --resume", file=sys.stderr)  # fmt: skip
        return INTERRUPTED
    return FAILED if found.failed else DONE
