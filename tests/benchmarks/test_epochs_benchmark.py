"""benchmarks/against_frameworks.py: JAX's model is PyTorch's, and a run without JAX says so."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from npnlp.text import SplitArrays
from tests.support.tables import ROOT, environment

LENGTHS = np.array([3, 5, 1, 4, 2])


def split() -> SplitArrays:
    random = np.random.default_rng(2)
    tokens = random.integers(1, 9, LENGTHS.sum())
    return SplitArrays(tokens, LENGTHS.cumsum() - LENGTHS, LENGTHS, np.array([0, 1, 2, 0, 1]))


@pytest.mark.peers
@pytest.mark.parametrize("cell", ["elman", "gru", "lstm"])
@pytest.mark.parametrize("unroll", [1, 64])
def test_an_epoch_in_jax_is_the_same_steps_of_adam_in_pytorch(
    passes: Path, cell: str, unroll: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("jax")
    from passes import jax_epochs
    from passes.epochs import EMBEDDING
    from passes.torch_epochs import TorchClassifier, padded

    rows = split()
    theirs = TorchClassifier(9, 3, "padded", cell, 7)
    monkeypatch.setattr(torch.nn.functional, "dropout", lambda x, _: x)
    state = {name: value.detach().numpy().copy() for name, value in theirs.state_dict().items()}
    assert state["emb.weight"].shape == (9, EMBEDDING)
    loss_of: Any = jax_epochs.loss_of

    def without_dropout(*given: Any) -> Any:
        return loss_of(*given[:5], None, *given[6:])

    monkeypatch.setattr(jax_epochs, "loss_of", without_dropout)
    found: dict[bool, tuple[float, float]] = {}
    for whole in (False, True):
        params = jax_epochs.parameters_of(state)
        epochs = jax_epochs.JaxEpochs(rows, params, cell, 2, whole, unroll)
        found[whole] = epochs()
        assert epochs() != found[whole]
    assert found[True] == pytest.approx(found[False], rel=1e-6)
    tokens, lengths, targets = padded(rows)
    adam = torch.optim.Adam(theirs.parameters(), lr=1e-3)
    losses = []
    for batch in torch.tensor(np.random.default_rng(0).permutation(5)).split(2):
        adam.zero_grad()
        longest = int(lengths[batch].max())
        logits = theirs(tokens[batch, :longest], lengths[batch])
        loss = torch.nn.functional.cross_entropy(logits, targets[batch])
        loss.backward()
        adam.step()
        losses.append(loss.item())
    assert found[True][0] == pytest.approx(np.mean(losses), rel=1e-5)


@pytest.mark.peers
def test_without_jax_a_line_says_so_and_the_rest_is_measured(passes: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    package = tmp_path / "site" / "jax"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('ABI')\n")
    search = os.pathsep.join([str(package.parent), str(ROOT)])
    command = [sys.executable, str(passes / "against_frameworks.py"), "--grid", "--quick"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "out"), "--cores", "2", "--cells", "elman"],
        capture_output=True, text=True, check=False, env=environment(PYTHONPATH=search),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if "JAX" in line]
    assert line.startswith("JAX is left out: JAX: jax or jaxlib or optax is installed but cannot")
    table = pd.read_csv(tmp_path / "out" / "grid.csv")
    assert set(table["peer"]) == {"torch"}
    assert set(table["cores"]) == {2}
    assert table["npnlp_threads"].isin([1, 2]).all()
    assert "jax_ms" not in table
