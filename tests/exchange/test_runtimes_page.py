"""The lines of docs/runtimes.md that use an exported file without npnlp."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from npnlp.exchange.runtimes.comparison import installed
from npnlp.exchange.runtimes.processes import WEB
from tests.support.exchange import made

pytestmark = pytest.mark.peers
pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

from npnlp.exchange.onnx_model import write_onnx  # noqa: E402

PAGE = (Path(__file__).parents[2] / "docs/runtimes.md").read_text("utf-8")
#: With blanks, a character that is not known, and an accent that is composed by NFC.
NAMES = ["  Nabokov ", "Li#", "Anna", "A\u0301b", "Bonanno"]


def block(language: str) -> str:
    """The one block of the page in a language."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return str(found)


def expected_of(folder: Path) -> list[str]:
    classifier = made(cell="gru", bidirectional=True, rnn_hidden_size=12)
    classifier.model.flat.values[...] *= 8  # so that names differ
    write_onnx(classifier, folder / "model.onnx")
    (folder / "kept.json").write_text(json.dumps(classifier.vectorizer.to_serializable()), "utf-8")
    expected = [answer.nationality for answer in classifier.predict(NAMES)]
    assert len(set(expected)) > 1
    return expected


def test_the_lines_in_python(tmp_path: Path) -> None:
    expected = expected_of(tmp_path)
    source = block("python")
    assert source.count('["Nakamoto", "McMahan"]') == 1
    given = source.replace('["Nakamoto", "McMahan"]', repr(NAMES))
    done = subprocess.run(
        [sys.executable, "-c", given], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{expected}\n"


@pytest.mark.skipif(
    not (shutil.which("node") and installed(WEB)), reason="npm has not put onnxruntime-web here"
)
def test_the_lines_in_javascript(tmp_path: Path) -> None:
    expected = expected_of(tmp_path)
    around = """
const fs = require("fs");
const ort = require(require.resolve("onnxruntime-web", { paths: [process.argv[1]] }));
%s
(async () => {
  ort.env.wasm.numThreads = 1;
  const session = await ort.InferenceSession.create(fs.readFileSync("model.onnx"));
  const kept = JSON.parse(fs.readFileSync("kept.json", "utf8")), found = [];
  for (const name of JSON.parse(process.argv[2])) found.push(await predict(name, kept, session));
  console.log(JSON.stringify(found));
  process.exit(0);
})();
"""
    done = subprocess.run(
        ["node", "-e", around % block("javascript"), str(Path.cwd()), json.dumps(NAMES)],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout) == expected
