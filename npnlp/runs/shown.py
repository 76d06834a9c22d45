"""How far a training in Python is: a line a seed in a notebook, a bar on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from html import escape
from importlib import import_module
from typing import Any

from tqdm import tqdm

#: What is told of a seed: ``"note"`` with a row of its history, or ``"done"`` with its result.
Heard = Callable[[int, str, Any], None]
#: Seconds between two looks of a notebook at the lines.
LOOK = 0.2


class Lines:
    """A line a seed: how many epochs are done, and the lowest validation loss so far."""

    def __init__(self, seeds: Sequence[int], epochs: int) -> None:
        self.epochs = epochs
        self.done = dict.fromkeys(seeds, 0)
        self.ended = dict.fromkeys(seeds, "")
        self.best = dict.fromkeys(seeds, float("inf"))

    def note(self, seed: int, kind: str, value: Any) -> None:
        """Take what is told of a seed."""
        if kind == "note":
            self.done[seed] += 1
            self.best[seed] = min(self.best[seed], value["val_loss"])
        elif isinstance(value, BaseException):
            self.ended[seed] = f"failed: {value}" if isinstance(value, Exception) else "interrupted"
        else:
            self.ended[seed] = "done"

    def of(self, seed: int) -> str:
        """The line of a seed, the same however long it took."""
        done, ended, best = self.done[seed], self.ended[seed], self.best[seed]
        said = f"seed {seed}: "
        if ended:
            said += f"{ended}, {done} epoch{'' if done == 1 else 's'}"
        else:
            said += f"{done} of at most {self.epochs} epochs"
        return said + (f", lowest validation loss {best:.4f}" if done else "")

    def __repr__(self) -> str:
        return "\n".join(map(self.of, self.done))

    def _repr_html_(self) -> str | None:
        """With bars while anything is running; then plain text will do."""
        if all(self.ended.values()):
            return None
        bars = (
            f'<progress max="{self.epochs}" value="{self.epochs if self.ended[seed] else done}">'
            f"</progress> {escape(self.of(seed))}<br>"
            for seed, done in self.done.items()
        )
        return "\n".join(bars)


@contextmanager
def shown(seeds: Sequence[int], epochs: int, wanted: bool = True) -> Iterator[Heard]:
    """What :func:`npnlp.runs.seeds.train_seeds` calls, and who runs the program sees.

    A notebook gets lines that are renewed in their place; a terminal a bar over all epochs; a file
    or a pipe nothing.
    """
    display = _display() if wanted else None
    if display is not None:
        yield _in_notebook(Lines(seeds, epochs), display)
        return
    total, hidden = epochs * len(seeds), None if wanted else True
    with tqdm(desc="epochs", total=total, unit="epoch", disable=hidden) as bar:
        done = dict.fromkeys(seeds, 0)

        def heard(seed: int, kind: str, value: Any) -> None:
            if kind == "note":
                done[seed] += 1
                bar.update()
                bar.set_postfix(seed=seed, val_loss=f"{value['val_loss']:.4f}")
            else:
                bar.update(epochs - done[seed])  # stopped early, or not at all
                bar.clear()  # for a line that somebody may print now

        yield heard


def _display() -> Callable[..., Any] | None:
    """What shows an object in the notebook that this program runs in; None outside of one."""
    ask = getattr(sys.modules.get("IPython"), "get_ipython", None)
    shell = ask() if callable(ask) else None
    if not hasattr(shell, "kernel"):
        return None
    show: Callable[..., Any] = import_module("IPython.display").display
    return show


def _in_notebook(lines: Lines, display: Callable[..., Any]) -> Heard:
    handle, last = display(lines, display_id=True), time.monotonic()

    def heard(seed: int, kind: str, value: Any) -> None:
        nonlocal last
        lines.note(seed, kind, value)
        now = time.monotonic()
        if kind != "note" or now - last > LOOK:
            last = now
            handle.update(lines)

    return heard
