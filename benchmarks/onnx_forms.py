"""An ONNX file of a recurrent model in onnxruntime: as it is exported, and with --sequence-lens.

Time of the processor, one thread, on batches of real names of unequal length; the two forms take
turns. A ratio is the time with ``sequence_lens`` over that of the form that every runtime computes,
its median over the rounds, with quartiles.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
from tqdm import tqdm

from npnlp.backend import get_backend
from npnlp.classifier.building import make_classifier
from npnlp.classifier.classifier import Classifier
from npnlp.cli.script import add_table, guarded, script_parser
from npnlp.exchange.differences import padded
from npnlp.files import write_csv, write_json
from npnlp.optional import needs
from npnlp.runs.report import environment
from npnlp.text import SurnameDataset

BOTH = {"bidirectional": True, "num_layers": 2}
KINDS: dict[str, dict[str, Any]] = {
    "elman": {"cell": "elman"},
    "elman, ReLU": {"cell": "elman", "nonlinearity": "relu"},
    "gru": {"cell": "gru"},
    "gru, reset before": {"cell": "gru", "reset": "before"},
    "lstm": {"cell": "lstm"},
    "gru, both directions, two layers": {"cell": "gru", **BOTH},
    "lstm, both directions, two layers": {"cell": "lstm", **BOTH},
}
#: Names that a round computes, about.
A_ROUND = 400


def session(content: bytes) -> Any:
    """onnxruntime on one thread."""
    with needs("this benchmark", "onnxruntime"):
        import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"])


def measure(classifier: Classifier, names: list[str], rounds: int) -> dict[str, float]:
    """Microseconds of a name in either form, and the ratio with its quartiles."""
    with needs("this benchmark", "onnx"):
        from npnlp.exchange.onnx_model import onnx_model
    sessions = [session(onnx_model(classifier, sequence_lens=given)) for given in (True, False)]
    tokens, lengths = padded(classifier.vectorizer, names)
    given = {"tokens": tokens, "lengths": lengths}
    calls = max(3, A_ROUND // len(names))
    seconds = np.zeros((rounds + 1, 2))
    for row in seconds:
        for place, each in enumerate(sessions):
            started = time.process_time()
            for _ in range(calls):
                each.run(["logits"], given)
            row[place] = time.process_time() - started
    seconds = seconds[1:] / (calls * len(names))
    low, median, high = np.percentile(seconds[:, 0] / seconds[:, 1], [25, 50, 75]).tolist()
    with_lengths, plain = (1e6 * np.median(seconds, axis=0)).tolist()
    return {"sequence_lens_us": with_lengths, "plain_us": plain, "ratio": median,
            "ratio_q25": low, "ratio_q75": high}  # fmt: skip


def main() -> int:
    """Measure, print and write."""
    parser = script_parser(__doc__, "out/onnx_forms")
    add_table(parser)
    add = parser.add_argument
    add("--rounds", type=int, default=11, help="turns of each form")
    add("--batch-sizes", type=int, nargs="+", default=[1, 16, 64, 1000], metavar="B", help="names")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.batch_sizes = 1, [2]
    if min(options.rounds, *options.batch_sizes) < 1:
        parser.error("--rounds and --batch-sizes have to be at least 1")
    dataset = SurnameDataset.load_dataset_and_make_vectorizer(options.surname_csv)
    names = dataset.frames["test"]["surname"].tolist()
    rows = []
    for kind, settings in tqdm(KINDS.items(), unit="kind", disable=None):
        model = make_classifier(dataset, settings, get_backend(), options.seed)
        classifier = Classifier(model, dataset.get_vectorizer())
        for size in options.batch_sizes:
            found = measure(classifier, names[:size], options.rounds)
            rows.append({"kind": kind, "batch_size": size, **found})
            tqdm.write(f"{kind:<36}{size:>5} names  {found['plain_us']:>7.1f} us a name, "
                       f"{found['ratio']:.2f} ({found['ratio_q25']:.2f} to "
                       f"{found['ratio_q75']:.2f})")  # fmt: skip
    options.out.mkdir(parents=True, exist_ok=True)
    write_csv(options.out / "onnx_forms.csv", rows)
    write_json(options.out / "environment.json", environment(get_backend()))
    return 0


if __name__ == "__main__":
    sys.exit(guarded("onnx_forms.py", main))
