"""A runtime in a process of its own, in Python or in Node."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.summary import summarized

#: The longest that a runtime may take, in seconds.
PATIENCE = 300
WEB = "onnxruntime-web"


@summarized
@dataclass(frozen=True)
class Batch:
    """Padded ``tokens (B, T)``, ``lengths (B,)`` and the probabilities ``(B, C)`` of npnlp."""

    tokens: NDArray[np.int64]
    lengths: NDArray[np.int64]
    expected: NDArray[Any]


def in_python(runtime: str, path: Path, batches: Sequence[Batch]) -> tuple[list[NDArray[Any]], str]:
    """The probabilities of each batch, or the reason why there are none."""
    given, output = path.with_name("in.npz"), path.with_name("out.npz")
    arrays = {
        f"{name}_{number}": getattr(batch, name)
        for number, batch in enumerate(batches)
        for name in ("tokens", "lengths")
    }
    np.savez(given, **arrays)
    module = "npnlp.exchange.runtimes.case"
    refused = reason_of([sys.executable, "-m", module, runtime, str(path), str(given), str(output)])
    if refused:
        return [], refused
    found = np.load(output)
    return [found[str(number)] for number in range(len(batches))], ""


def in_node(path: Path, batches: Sequence[Batch]) -> tuple[list[NDArray[Any]], str]:
    """The same of onnxruntime-web."""
    given, output = path.with_name("in.json"), path.with_name("out.json")
    content = [
        {
            "tokens": b.tokens.ravel().tolist(),
            "lengths": b.lengths.tolist(),
            "shape": b.tokens.shape,
        }
        for b in batches
    ]
    given.write_text(json.dumps(content), "utf-8")
    script = Path(__file__).with_name("web.cjs")
    refused = reason_of(["node", str(script), str(path), str(given), str(output)])
    if refused:
        return [], refused
    return [np.array(flat) for flat in json.loads(output.read_text("utf-8"))], ""


def reason_of(command: list[str]) -> str:
    """An empty string where the command succeeds, and else why it does not."""
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            command, env=os.environ | one_thread, capture_output=True, text=True, errors="replace",
            timeout=PATIENCE, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"it has no answer after {PATIENCE} s"
    if done.returncode < 0:
        return f"it crashes (signal {-done.returncode})"
    if done.returncode:
        last = done.stderr.strip().rpartition("\n")[2]
        return last[:160] or f"it ends with status {done.returncode}"
    return ""


def web_version() -> str:
    """Of the package in Node, found from the current folder."""
    if shutil.which("node") is None:
        return ""
    asked = f'const p = require.resolve("{WEB}", {{paths: [process.cwd()]}});' \
        f'const at = p.lastIndexOf("{WEB}") + {len(WEB)};' \
        'console.log(require(p.slice(0, at) + "/package.json").version)'  # fmt: skip
    done = subprocess.run(["node", "-e", asked], capture_output=True, text=True, check=False)
    return done.stdout.strip() if not done.returncode else ""
