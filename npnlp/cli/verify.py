"""``npnlp verify``: a saved or exported model against PyTorch, or against onnxruntime."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from npnlp.classifier.classifier import Classifier
from npnlp.cli.import_ import add_choices, choices_of
from npnlp.cli.options import add_surname_csv, columns_of, load_saved
from npnlp.cli.verify_runtimes import in_runtimes
from npnlp.errors import InputError
from npnlp.exchange import read_state_dict
from npnlp.exchange.differences import BOUNDS, Difference, Names, from_onnx, from_torch
from npnlp.exchange.runtimes.comparison import ALL, NAMES
from npnlp.files.nearest import no_such_file
from npnlp.optional import needs
from npnlp.text import own_table_path, read_table
from npnlp.text.columns import Columns

HELP = "compare a model with PyTorch or onnxruntime"
DESCRIPTION = (
    "The largest difference, on real names, of a model's outputs and gradients from PyTorch's (a "
    ".safetensors), or of its outputs from onnxruntime's (a .onnx). Status 1 where one is above "
    "1e-5 in float32 or 1e-12 in float64, or where a --runtime answers otherwise."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument(
        "file", type=Path, metavar="FILE",
        help="model.safetensors, a state dict as safetensors, or a .onnx",
    )  # fmt: skip
    parser.add_argument(
        "--save-dir", type=Path, metavar="DIR",
        help="where the model of a .onnx lies (default: the folder of FILE)",
    )  # fmt: skip
    parser.add_argument("--model-state-file", default="model.safetensors", metavar="FILE",
                        help="its name there")  # fmt: skip
    add_surname_csv(parser)
    parser.add_argument("--names", type=int, default=256, metavar="N",
                        help="how many names of the table to take")  # fmt: skip
    parser.add_argument(
        "--runtime", metavar="NAME",
        help=f"run a .onnx in this runtime, each file on the same names in a process of its own: "
        f"{', '.join(NAMES)}; or {ALL} that are installed (default: onnxruntime, by its logits)",
    )  # fmt: skip
    add_choices(parser)


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    path: Path = options.file
    csv = options.surname_csv or own_table_path()
    if path.suffix.lower() == ".onnx":
        if not path.is_file():
            raise InputError(f"{path}: {no_such_file(path)}")
        folder = path.parent if options.save_dir is None else options.save_dir
        classifier = load_saved(folder / options.model_state_file)
        if options.runtime is not None:
            texts = read_table(csv, columns_of(options))["surname"].tolist()
            return in_runtimes(path, classifier, texts, options)
        with needs("a comparison with ONNX", "onnxruntime"):
            from npnlp.exchange.onnx_run import VERSION as PEER
        names = _names(csv, columns_of(options), classifier, options.names)
        found = from_onnx(classifier, path, names)
    else:
        if options.runtime is not None:
            raise InputError(f"runtime: {path} is no .onnx; npnlp export --format onnx writes one")
        said: list[str] = []
        classifier = read_state_dict(path, options.vectorizer_file, choices_of(options), said)
        if said:
            print(f"{path}: read {', '.join(said)}")
        with needs("a comparison with PyTorch", "torch"):
            from npnlp.exchange.torch_model import VERSION as PEER
        names = _names(csv, columns_of(options), classifier, options.names)
        found = from_torch(classifier.model, names)
    print(f"{path}: largest differences from {PEER} on {len(names.lengths)} names of {csv}\n")
    print("\n".join(table(found)))
    return 0 if all(each.passed for each in found) else 1


def table(found: Sequence[Difference]) -> list[str]:
    """A line a quantity, a column a dtype; below, the bounds and the verdict."""
    dtypes = [dtype for dtype in BOUNDS if any(each.dtype == dtype for each in found)]
    values = {(each.quantity, each.dtype): each.value for each in found}
    sizes = {each.quantity: each.largest for each in found}
    width = max(len(quantity) for quantity in [*sizes, "quantity"])

    def line(name: str, size: str, cells: Sequence[str]) -> str:
        return f"{name:<{width}}{size:>15}" + "".join(f"{cell:>10}" for cell in cells)

    lines = [line("quantity", "largest entry", dtypes)]
    for name, size in sizes.items():
        cells = [f"{values[name, dtype]:.1e}" for dtype in dtypes]
        lines.append(line(name, f"{size:.1e}", cells))
    lines.append(line("bound", "", [f"{BOUNDS[dtype]:.0e}" for dtype in dtypes]))
    failed = sum(not each.passed for each in found)
    return [
        *lines,
        "",
        f"{len(found)} comparisons; " + (f"{failed} FAILED" if failed else "all passed"),
    ]


def _names(csv: Path, columns: Columns, classifier: Classifier, count: int) -> Names:
    try:
        return Names.of(read_table(csv, columns), classifier.vectorizer, count)
    except InputError as error:
        if str(csv) in str(error):
            raise
        raise InputError(f"{csv}: {error}") from error
