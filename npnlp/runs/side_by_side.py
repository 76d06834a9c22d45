"""Calls side by side, each in a process of its own, on as many cores as are given.

On Linux a process is forked: it has what its parent has read, and starts at once. Elsewhere it is
spawned, which costs a start of Python and a copy of what it is given; a script has to call from
under ``if __name__ == "__main__"`` there.
"""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import connection, get_context
from typing import Any

from tqdm import tqdm

from npnlp.backend.threads import cores, one_blas_thread
from npnlp.checks import require_whole
from npnlp.errors import DeviceError, DivergenceError, InputError
from npnlp.training.interrupt import Interrupted, interruptible

FORKED = "fork" if sys.platform == "linux" else "spawn"
#: Backends of the host, after whose start a process can still be forked.
HOST = ("numpy", "numba", "reference")
#: Seconds between two looks at whether Ctrl-C was pressed.
LOOK = 0.2


@dataclass(frozen=True)
class Place:
    """What a call in a process of its own can say to its parent, and hear."""

    pipe: Any
    stop: Any
    parent: int

    def note(self, value: Any) -> None:
        """Send ``value`` to the parent."""
        self.pipe.send(("note", value))

    def check(self) -> None:
        """Raise :class:`Interrupted` where the parent wants no more, or has ended."""
        if self.stop.is_set() or os.getppid() != self.parent:
            raise Interrupted


def side_by_side(
    call: Callable[..., Any],
    tasks: Sequence[tuple[Any, ...]],
    jobs: int | None = None,
    heard: Callable[[int, str, Any], None] = lambda number, kind, value: None,
    backend: str = "numpy",
) -> list[Any]:
    """``call(*task, place)`` of every task, ``jobs`` of them (by default :func:`cores`) at a time.

    The results stand in the order of the tasks. In the place of one that has failed stands the
    error: :class:`InputError`, :class:`DivergenceError` and so on, or a ``RuntimeError`` where the
    process ended without a word. After Ctrl-C those running end by themselves, and for all that
    are not done an :class:`Interrupted` stands there. ``heard`` is called with the number of a
    task, and ``"note"`` with what its :class:`Place` was told, or ``"done"`` with its result.
    Where ``backend`` may be a GPU, which no fork can use, processes are spawned.
    """
    jobs = cores() if jobs is None else jobs
    require_whole("jobs", jobs)
    context: Any = get_context(FORKED if backend in HOST else "spawn")
    stop = context.Event()
    results: list[Any] = [Interrupted() for _ in tasks]
    waiting, running = list(range(len(tasks))), dict[Any, tuple[int, Any]]()
    try:
        with interruptible() as check:
            while waiting or running:
                while waiting and len(running) < jobs:
                    number = waiting.pop(0)
                    pipe, process = _started(context, call, tasks[number], stop)
                    running[pipe] = number, process
                ready: list[Any] = connection.wait(list(running), LOOK)
                for pipe in ready:
                    number, process = running[pipe]
                    try:
                        kind, value = pipe.recv()
                    except EOFError:
                        process.join()
                        del running[pipe]
                        if process.exitcode:
                            results[number] = _silent(process.exitcode)
                        heard(number, "done", results[number])
                        continue
                    if kind == "note":
                        heard(number, kind, value)
                    else:
                        results[number] = value
                try:
                    check()
                except Interrupted:
                    stop.set()
                    waiting.clear()
    finally:
        for _, process in running.values():
            process.terminate()
    return results


def calls_of(
    call: Callable[..., Any],
    tasks: Sequence[tuple[Any, ...]],
    jobs: int | None = None,
    backend: str = "numpy",
) -> list[Any]:
    """All results of :func:`side_by_side`, with a bar; raises the first error among them."""
    with tqdm(total=len(tasks), unit="run", disable=None) as bar:

        def heard(number: int, kind: str, value: Any) -> None:
            bar.update(kind == "done")

        results = side_by_side(call, tasks, jobs, heard, backend)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


def _silent(status: int) -> RuntimeError:
    how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
    return RuntimeError(f"its process {how}")


def _started(context: Any, call: Callable[..., Any], task: tuple[Any, ...], stop: Any) -> Any:
    """A running process, behind the pipe on which it is heard."""
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(call, task, Place(send, stop, os.getpid())))
    with warnings.catch_warnings():  # the threads that a fork leaves behind are BLAS's, and idle
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()
    send.close()
    return receive, process


def _child(call: Callable[..., Any], task: tuple[Any, ...], place: Place) -> None:
    """A call in its own process. Only training, which can be continued, heeds a Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    result: Any
    try:
        with one_blas_thread():
            result = call(*task, place)
    except (Interrupted, KeyboardInterrupt, BrokenPipeError):
        result = Interrupted()
    except (InputError, DeviceError, DivergenceError) as error:
        result = type(error)(str(error))
    except (OSError, MemoryError) as error:
        result = error
    place.pipe.send(("result", result))
