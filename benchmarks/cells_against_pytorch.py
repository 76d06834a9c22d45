"""A training epoch of each cell against PyTorch's own module, in one run.

As benchmarks/against_pytorch.py, for the Elman cell, the GRU and the LSTM at several sizes.
PyTorch reads a padded batch both ways, packed and padded; the table has both, the line the faster.
"""

from __future__ import annotations

import sys
from typing import Any

from passes.epochs import MODULES, measure, own_epochs, report, torch, torch_epoch

from npnlp.backend import get_backend
from npnlp.cli.script import add_table, guarded, script_parser
from npnlp.files import write_csv, write_json
from npnlp.runs.report import environment
from npnlp.text import SurnameDataset


def main() -> int:
    """Measure, print and write."""
    parser = script_parser(__doc__, "out/cells_against_pytorch")
    add_table(parser)
    add = parser.add_argument
    add("--cells", nargs="+", choices=list(MODULES), default=list(MODULES), help="which")
    add("--sizes", type=int, nargs="+", default=[64, 128, 256], metavar="H", help="hidden sizes")
    add("--rounds", type=int, default=5, help="epochs of each way and thread count")
    add("--threads", type=int, nargs="+", default=[1, 2], help="counts to try")
    options = parser.parse_args()
    if options.quick:
        options.cells, options.sizes, options.rounds, options.threads = ["gru"], [64], 1, [1]
    dataset = SurnameDataset.load_dataset_and_make_vectorizer(options.surname_csv)
    torch.manual_seed(options.seed)
    rows: list[dict[str, Any]] = []
    print(f"{'cell':<8}{'hidden':>7}{'ms/epoch':>10}{'ratio':>8}  quartiles     against")
    for cell in options.cells:
        for hidden in options.sizes:
            ways = own_epochs(dataset, cell, hidden) | {
                f"torch {way}": torch_epoch(dataset, way, cell, hidden)
                for way in ("packed", "padded")
            }
            found = report(measure(ways, options.threads, options.rounds), len(dataset))
            rows += [{"cell": cell, "hidden_size": hidden, **row} for row in found]
            theirs = [row for row in found if row["way"].startswith("torch")]
            fastest = min(theirs, key=lambda row: row["ratio"])
            print(
                f"{cell:<8}{hidden:>7}{1e3 * found[0]['epoch_seconds']:>10.1f}"
                f"{fastest['ratio']:>8.2f}  {fastest['ratio_q25']:.2f} to "
                f"{fastest['ratio_q75']:.2f}  {fastest['way']}, {fastest['threads']} threads",
                flush=True,
            )
    options.out.mkdir(parents=True, exist_ok=True)
    write_csv(options.out / "cells_against_pytorch.csv", rows)
    described = {**environment(get_backend()), "torch": torch.__version__}
    write_json(options.out / "environment.json", described)
    return 0


if __name__ == "__main__":
    sys.exit(guarded("cells_against_pytorch.py", main))
