"""``npnlp export``: a saved model for PyTorch or for ONNX."""

from __future__ import annotations

import argparse
from pathlib import Path

from npnlp.cli.options import add_save_dir, load_saved
from npnlp.errors import InputError
from npnlp.exchange import LAYOUTS, write_state_dict
from npnlp.optional import needs
from npnlp.text.letter_case import AS_WRITTEN

#: The file of each format, in the folder of the run.
FILES = {"pytorch": "state_dict.safetensors", "onnx": "model.onnx"}


HELP = "write a saved model for PyTorch or ONNX"
DESCRIPTION = (
    "Write a saved model as a PyTorch state dict (safetensors, no pickle) or as an ONNX file with "
    "inputs tokens (batch, time) and lengths (batch) and outputs logits and probabilities."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add_save_dir(parser)
    parser.add_argument("--format", choices=tuple(FILES), default="pytorch", help="what to write")
    parser.add_argument(
        "--layout", choices=LAYOUTS, default="pytorch",
        type=lambda name: "notebook" if name == "seed" else name,
        help="names of the tensors of a state dict: those of nn.RNN, nn.GRU, nn.LSTM and "
        "nn.TransformerEncoder, or those of the notebook's class around nn.RNNCell",
    )  # fmt: skip
    parser.add_argument(
        "--sequence-lens", action="store_true",
        help="give the lengths to the operators of an ONNX file: faster in onnxruntime, and "
        "wrong in most other runtimes (see docs/runtimes.md)",
    )  # fmt: skip
    parser.add_argument(
        "--output", type=Path, metavar="FILE",
        help="where to (default: state_dict.safetensors or model.onnx in the folder of the run)",
    )  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    source = options.save_dir / options.model_state_file
    classifier = load_saved(source)
    output = options.output or options.save_dir / FILES[options.format]
    _check_output(output, source, options.format)
    if options.sequence_lens and options.format != "onnx":
        raise InputError("sequence-lens is of an ONNX file; leave it out, or add --format onnx")
    if options.format == "onnx":
        if options.layout != "pytorch":
            raise InputError("layout is of a state dict; leave it out for ONNX")
        with needs("an export to ONNX", "onnx"):
            from npnlp.exchange.onnx_model import write_onnx
        write_onnx(classifier, output, sequence_lens=options.sequence_lens)
        hint = (
            "inputs tokens (batch, time) and lengths (batch), outputs logits and probabilities "
            "(batch, classes)"
        )
    else:
        write_state_dict(classifier, output, options.layout)
        hint = "in PyTorch: model.load_state_dict(safetensors.torch.load_file(FILE))"
    if classifier.vectorizer.letter_case != AS_WRITTEN:
        hint += f"; names are put into {classifier.vectorizer.letter_case} case before"
    if classifier.vectorizer.split_at:
        kinds = " and ".join(classifier.vectorizer.split_at)
        hint += f"; names are split at {kinds} before, see docs/reading-names.md"
    print(f"{output}: {output.stat().st_size:,} bytes; {hint}")
    return 0


def _check_output(output: Path, source: Path, kind: str) -> None:
    suffix = Path(FILES[kind]).suffix
    if output.suffix != suffix:
        raise InputError(f"output {output}: the name of this format has to end in {suffix}")
    if output.resolve() in (source.resolve(), source.with_name("last.safetensors").resolve()):
        raise InputError(f"output {output}: a file of the run itself; choose another")
