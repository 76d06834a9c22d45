"""The lines of docs/scale.md on a local cluster, with a worker killed in the middle."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import npnlp
from tests.support.tables import frame_of, small_rows

pytestmark = pytest.mark.peers
distributed: Any = pytest.importorskip("distributed", reason="distributed is not installed")
pytest.importorskip("dask.dataframe", reason="dask[dataframe] is not installed")

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/scale.md").read_text("utf-8")
FIRST, KEEP, SECOND = re.findall(r"```py\n(.*?)```", PAGE, re.DOTALL)


def test_every_row_is_there_once_also_where_a_worker_is_killed(tmp_path: Path) -> None:
    """The script raises where a row is missing, doubled, out of order or otherwise answered."""
    script = ROOT / "experiments/scale.py"
    done = subprocess.run(
        [sys.executable, str(script), "--quick", "--out", str(tmp_path / "out")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = pd.read_csv(tmp_path / "out" / "scale.csv")
    assert found["way"].tolist() == ["a plain loop", "Dask", "Dask, a worker killed"]
    assert done.stdout.count("every row once, in order") == 2


def test_the_lines_of_the_page(tmp_path: Path) -> None:
    names = frame_of(small_rows())["surname"].tolist()
    (tmp_path / "names").mkdir()
    for number in range(3):
        part = pd.DataFrame({"surname": names[number::3]})
        part.to_parquet(tmp_path / "names" / f"part{number}.parquet", index=False)
    source = FIRST.replace('"runs/mine/model.safetensors"', "")
    begin = 'if __name__ == "__main__":\n'
    source = source.replace(begin, KEEP + "\n" + begin)
    source = source.replace("threads_per_worker=1)", "n_workers=2, threads_per_worker=1)")
    (tmp_path / "lines.py").write_text(source, "utf-8")
    done = subprocess.run(
        [sys.executable, "lines.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answers = pd.concat(
        [pd.read_parquet(path) for path in sorted((tmp_path / "answers").glob("*.parquet"))]
    )
    expected = {each.surname: each.nationality for each in npnlp.Classifier.load().predict(names)}
    assert sorted(answers["surname"]) == sorted(names)
    assert dict(zip(answers["surname"], answers["nationality"], strict=True)) == expected


def test_a_search_on_the_workers_of_dask() -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    table = frame_of(small_rows())
    names, labels = table["surname"].tolist() * 3, table["nationality"].tolist() * 3
    given: dict[str, Any] = {"npnlp": npnlp, "names": names, "labels": labels}
    code = compile(SECOND.replace("num_epochs=10", "num_epochs=1"), "docs/scale.md", "exec")
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, memory_limit=0
    )
    with cluster, distributed.Client(cluster):
        exec(code, given)
    assert given["search"].best_params_["cell"] in ("elman", "gru")
    assert len(given["search"].cv_results_["params"]) == 2
