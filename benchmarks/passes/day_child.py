"""``npnlp`` in a process of its own, which counts its graphs; for benchmarks/first_day.py.

    python day_child.py COUNTS.json train --backend cupy ...

COUNTS.json then holds how many graphs were captured and launched, how many nodes each has, and
the seconds of the whole call. CuPy forgets a graph once it is made ready to launch, so its nodes
are counted by the driver just before the capture ends.
"""

from __future__ import annotations

import ctypes
import json
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from npnlp.backend.cuda.graphs import Graphs
from npnlp.cli import main

Counts = dict[str, Any]


def nodes_of(driver: Any, stream: int) -> int:
    """Nodes of the graph that this stream is captured into."""
    status, graph, count = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_size_t()
    number, before, places = ctypes.c_uint64(), ctypes.c_void_p(), ctypes.c_size_t()
    asked = driver.cuStreamGetCaptureInfo_v2(
        ctypes.c_void_p(stream), ctypes.byref(status), ctypes.byref(number), ctypes.byref(graph),
        ctypes.byref(before), ctypes.byref(places),
    )  # fmt: skip
    if asked or driver.cuGraphGetNodes(graph, None, ctypes.byref(count)):
        raise OSError("the driver does not say")
    return count.value


class CountedStream:
    """A stream whose captures are counted at their end."""

    def __init__(self, stream: Any, counts: Counts) -> None:
        self.stream, self.counts = stream, counts

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def __enter__(self) -> Any:
        return self.stream.__enter__()

    def __exit__(self, *error: Any) -> Any:
        return self.stream.__exit__(*error)

    def end_capture(self, *given: Any) -> Any:
        """Also notes the number of nodes, where the driver tells."""
        with suppress(OSError, AttributeError):
            driver = ctypes.CDLL("libcuda.so.1")
            self.counts["nodes"].append(nodes_of(driver, self.stream.ptr))
        return CountedGraph(self.stream.end_capture(*given), self.counts)


class CountedGraph:
    """A graph whose launches are counted."""

    def __init__(self, graph: Any, counts: Counts) -> None:
        self.graph, self.counts = graph, counts
        counts["graphs"] += 1

    def launch(self, stream: Any) -> None:
        """On this stream."""
        self.counts["launches"] += 1
        self.graph.launch(getattr(stream, "stream", stream))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.graph, name)


def counting(counts: Counts) -> None:
    """From here on the graphs of this process are counted."""
    made = Graphs.__init__

    def init(self: Graphs, *given: Any, **named: Any) -> None:
        made(self, *given, **named)
        self.stream = CountedStream(self.stream, counts)

    Graphs.__init__ = init  # type: ignore[method-assign]


if __name__ == "__main__":
    counts: Counts = {"graphs": 0, "launches": 0, "nodes": []}
    counting(counts)
    begun = time.perf_counter()
    status = main(sys.argv[2:])
    counts["seconds"] = time.perf_counter() - begun
    Path(sys.argv[1]).write_text(json.dumps(counts), encoding="utf-8")
    sys.exit(status)
