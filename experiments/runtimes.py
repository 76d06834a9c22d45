"""Twelve kinds of models as ONNX files: what runtimes make of them, and what shorter numbers cost.

A model of each kind is trained for a few epochs, exported, and run in every runtime that is
installed (onnxruntime-web where npm has put it into this folder) on the same names: 1,000 of
unequal length, five, one, one of one letter and one of 40. Where onnxruntime and
onnxconverter-common are installed, each file is also quantised dynamically and turned to float16,
and its accuracy on the test names is compared.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from tqdm import tqdm

from npnlp.backend import get_backend
from npnlp.classifier.classifier import Classifier
from npnlp.cli.script import add_table, guarded, script_parser
from npnlp.exchange.differences import padded
from npnlp.exchange.runtimes.comparison import NAMES, Found, batches_of, compare, installed
from npnlp.files import write_csv, write_json
from npnlp.optional import needs
from npnlp.runs.report import environment
from npnlp.runs.training import train
from npnlp.text import read_table

BOTH = {"bidirectional": True, "num_layers": 2}
KINDS: dict[str, dict[str, Any]] = {
    "elman": {"cell": "elman"},
    "elman, ReLU": {"cell": "elman", "nonlinearity": "relu"},
    "gru": {"cell": "gru"},
    "gru, reset before": {"cell": "gru", "reset": "before"},
    "lstm": {"cell": "lstm"},
    "elman, both directions, mean": {"cell": "elman", "bidirectional": True, "pooling": "mean"},
    "gru, both directions, two layers": {"cell": "gru", **BOTH},
    "lstm, both directions, two layers, max": {"cell": "lstm", "pooling": "max", **BOTH},
    "lstm, attention": {"cell": "lstm", "pooling": "attention"},
    "transformer, mean": {"cell": "transformer", "pooling": "mean"},
    "transformer, two layers": {"cell": "transformer", "num_layers": 2},
    "--recipe wide": {"recipe": "wide", "warm_up": 0.0},
}
#: What is not tried: the converter of MNN 3.6 crashes on every LSTM, and onnxruntime 1.32 on a
#: transformer of several layers in float16. See docs/runtimes.md.
CRASHES = {"lstm": "mnn", "transformer, two layers": "float16"}
CRASHED = "not tried, since it crashes"
#: Names of the largest batch.
MANY = 1000


def int8(path: Path) -> bytes:
    """The file with its products' weights in eight bits, of onnxruntime's dynamic quantisation."""
    short = path.with_name("int8.onnx")
    import_module("onnxruntime.quantization").quantize_dynamic(path, short)
    return short.read_bytes()


def float16(path: Path) -> bytes:
    """The file in half precision, with inputs and outputs as before."""
    model = import_module("onnx").load(str(path))
    convert = import_module("onnxconverter_common.float16").convert_float_to_float16
    content: bytes = convert(model, keep_io_types=True).SerializeToString()
    return content


SHORTER: dict[str, Callable[[Path], bytes]] = {"int8": int8, "float16": float16}


def crashes(kind: str) -> str:
    """The runtime, or the way to shorter numbers, that crashes on a kind of models."""
    return next((what for name, what in CRASHES.items() if kind.startswith(name)), "")


def accuracies(kind: str, path: Path, classifier: Classifier, test: Any) -> dict[str, Any]:
    """Accuracy on the test names in onnxruntime: of the file, and with shorter numbers."""
    with needs("these accuracies", "onnxruntime"):
        from npnlp.exchange.onnx_run import onnx_logits
    tokens, lengths = padded(classifier.vectorizer, test["surname"])
    classes = classifier.vectorizer.nationality_vocab
    targets = np.array([classes.lookup_token(name) for name in test["nationality"]])
    found: dict[str, Any] = {}
    for way, shorten in {"float32": Path.read_bytes, **SHORTER}.items():
        if way == crashes(kind):
            found[way] = CRASHED
            continue
        try:
            logits = onnx_logits(shorten(path), tokens, lengths)
            found[way] = float((logits.argmax(axis=1) == targets).mean())
        except ImportError:
            found[way] = "not installed"
    return found


def main() -> int:
    """Train, run, print and write."""
    parser = script_parser(__doc__, "out/runtimes")
    add_table(parser)
    parser.add_argument("--epochs", type=int, default=3, help="of each model")
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS),
                        metavar="KIND", help="which")  # fmt: skip
    options = parser.parse_args()
    if options.quick:
        options.epochs, options.kinds = 1, ["elman"]
    with needs("this experiment", "onnx"):
        from npnlp.exchange.onnx_model import write_onnx
    logging.disable(logging.WARNING)  # the converters say much
    warnings.simplefilter("ignore")
    table = read_table(options.surname_csv)
    test = table[table["split"] == "test"]
    names = test["surname"].tolist()[:MANY]
    runtimes = [name for name in NAMES if installed(name)]
    rows, shorter = [], []
    with TemporaryDirectory() as folder, tqdm(options.kinds, unit="kind", disable=None) as bar:
        path = Path(folder) / "model.onnx"
        for kind in bar:
            bar.set_postfix_str(kind)
            settings = {"num_epochs": options.epochs, **KINDS[kind]}
            classifier = train(options.surname_csv, seed=options.seed, **settings).classifiers[
                options.seed
            ]
            write_onnx(classifier, path)
            batches = batches_of(classifier, names)
            for runtime in runtimes:
                if runtime == crashes(kind):
                    found = Found(runtime, installed(runtime), refused=CRASHED)
                else:
                    found = compare(path, runtime, batches)
                rows.append({"kind": kind, **found._asdict(), "wrong": int(found.wrong)})
                said = found.refused or f"{found.difference:.0e}"
                tqdm.write(f"{kind:<40}{runtime:<18}{said}")
            shorter.append({"kind": kind, **accuracies(kind, path, classifier, test)})
            tqdm.write(f"{kind:<40}accuracy: {shorter[-1]}")
    options.out.mkdir(parents=True, exist_ok=True)
    write_csv(options.out / "runtimes.csv", rows)
    write_csv(options.out / "shorter_numbers.csv", shorter)
    write_json(options.out / "environment.json", environment(get_backend()))
    return 1 if any(row["wrong"] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(guarded("runtimes.py", main))
