"""A figure shows itself in a real notebook, whatever the user has set there."""

from __future__ import annotations

import base64
import io
import json
import sys
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pandas as pd
import pytest

nbformat = pytest.importorskip("nbformat", reason="a notebook needs nbformat")
nbclient = pytest.importorskip("nbclient", reason="a notebook needs nbclient")
pytest.importorskip("ipykernel", reason="a notebook needs ipykernel")

BEFORE = {
    "nothing": "pass",
    "pyplot": "import matplotlib.pyplot as plt",
    "settings": "%matplotlib inline\nimport matplotlib.pyplot as plt\n"
    "plt.rcParams.update({'text.usetex': True, 'axes.facecolor': 'red', 'font.family': 'None'})",
}
DRAWN = "from npnlp import plots\nplots.learning_curves({table!r})"


def run(folder: Path, *cells: str) -> list[Any]:
    """The outputs of the last cell, executed in a kernel of this Python."""
    kernel = folder / "kernels/python3"
    kernel.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": command, "display_name": "here", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(spec), "utf-8")
    made = [nbformat.v4.new_code_cell(cell) for cell in cells]
    notebook = nbformat.v4.new_notebook(cells=made)
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    outputs: list[Any] = notebook.cells[-1].outputs
    return outputs


@pytest.mark.parametrize("before", list(BEFORE))
def test_a_figure_is_shown_once_and_as_it_is_drawn_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    history = pd.DataFrame({
        "epoch": range(5), "train_loss": [2.0, 1.5, 1.2, 1.1, 1.0], "train_accuracy": 0.5,
        "val_loss": [2.1, 1.7, 1.5, 1.4, 1.4], "val_accuracy": 0.4,
    })  # fmt: skip
    table = tmp_path / "history.csv"
    history.to_csv(table, index=False)
    (output,) = run(tmp_path, BEFORE[before], DRAWN.format(table=str(table)))
    content = base64.b64decode(output.data["image/png"])
    pixels = matplotlib.image.imread(io.BytesIO(content))
    assert pixels.shape[1] >= 1400
    corner = pixels[pixels.shape[0] // 2, -3, :3]
    np.testing.assert_allclose(corner, 1, err_msg="the paper is white")
    red = (pixels[..., 0] > 0.9) & (pixels[..., 1] < 0.1)
    assert not red.any()
