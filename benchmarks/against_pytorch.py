"""A training epoch of this project against PyTorch's ways of doing the same, in one run.

Every way trains the same model (embedding, Elman, dropout, linear, ReLU, dropout, linear; Adam)
on the same rows with the same batch size. Ways are interleaved, epoch by epoch, each with every
thread count; a way's figure is its median at its best thread count, and the spread of a ratio is
that of the ratios round by round.
"""

from __future__ import annotations

import sys

from passes.epochs import BATCH, EMBEDDING, measure, npnlp_epoch, report, torch, torch_epoch

from npnlp.backend import get_backend
from npnlp.cli.script import add_table, guarded, script_parser
from npnlp.files import write_csv, write_json
from npnlp.text import SurnameDataset
from npnlp.training.run import environment

HIDDEN = 64


def main() -> int:
    """Measure, print and write."""
    parser = script_parser(__doc__, "out/against_pytorch")
    add_table(parser)
    parser.add_argument("--rounds", type=int, default=9, help="epochs of each way and thread count")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="counts to try")
    options = parser.parse_args()
    dataset = SurnameDataset.load_dataset_and_make_vectorizer(options.surname_csv)
    torch.manual_seed(options.seed)
    ways = {
        "npnlp": npnlp_epoch(dataset),
        "torch.nn.RNN packed": torch_epoch(dataset, "packed"),
        "torch.nn.RNN padded": torch_epoch(dataset, "padded"),
        "RNNCell step by step": torch_epoch(dataset, "steps"),
        "the book's whole epoch": torch_epoch(dataset, "steps", loader=True),
    }
    rounds = 1 if options.quick else options.rounds
    rows = report(measure(ways, options.threads, rounds), len(dataset))
    print(f"{len(dataset):,} names, batch {BATCH}, embedding {EMBEDDING}, hidden {HIDDEN}, "
          f"{rounds} rounds, torch {torch.__version__}")  # fmt: skip
    print(f"{'way':<24}{'threads':>8}{'ms/epoch':>10}{'names/s':>10}{'ratio':>8}  quartiles")
    for row in rows:
        print(
            f"{row['way']:<24}{row['threads']:>8}{1e3 * row['epoch_seconds']:>10.1f}"
            f"{row['names_per_second']:>10,.0f}{row['ratio']:>8.2f}  "
            f"{row['ratio_q25']:.2f} to {row['ratio_q75']:.2f}"
        )
    options.out.mkdir(parents=True, exist_ok=True)
    write_csv(options.out / "against_pytorch.csv", rows)
    described = {**environment(get_backend()), "torch": torch.__version__}
    write_json(options.out / "environment.json", described)
    return 0


if __name__ == "__main__":
    sys.exit(guarded("against_pytorch.py", main))
