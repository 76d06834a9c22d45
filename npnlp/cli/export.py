"""``npnlp export``: a saved model for PyTorch, ONNX, Keras or Flax."""

from __future__ import annotations

import argparse
from pathlib import Path

from npnlp.cli.options import add_save_dir, load_saved
from npnlp.errors import InputError
from npnlp.exchange import LAYOUTS, write_model, write_state_dict
from npnlp.exchange.foreign import SUFFIXES
from npnlp.exchange.frameworks.flax_write import FORMS
from npnlp.optional import needs
from npnlp.text.letter_case import AS_WRITTEN

#: The file of each format, in the folder of the run.
FILES = {"pytorch": "state_dict.safetensors", "onnx": "model.onnx", "keras": "model.keras",
         "flax": "params.msgpack"}  # fmt: skip
#: What is said of each framework's file.
HINTS = {
    "keras": "in Keras: keras.models.load_model(FILE), or model.load_weights(FILE)",
    "flax": "in Flax: flax.serialization.msgpack_restore(content), or safetensors.flax.load_file",
}


HELP = "write a saved model for PyTorch, ONNX, Keras or Flax"
DESCRIPTION = (
    "Write a saved model as a PyTorch state dict (safetensors, no pickle) or as an ONNX file with "
    "inputs tokens (batch, time) and lengths (batch) and outputs logits and probabilities; as a "
    "Keras 3 model, or as the parameters of a Flax module."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add_save_dir(parser)
    parser.add_argument("--format", choices=tuple(FILES), default="pytorch", help="what to write")
    parser.add_argument(
        "--layout", choices=(*LAYOUTS, *FORMS),
        type=lambda name: "notebook" if name == "seed" else name,
        help="names of the tensors of a state dict: those of nn.RNN, nn.GRU, nn.LSTM and "
        "nn.TransformerEncoder, or those of the notebook's class around nn.RNNCell; of Flax's "
        "parameters: those of linen or nnx (default: pytorch; of Flax linen)",
    )  # fmt: skip
    parser.add_argument(
        "--sequence-lens", action="store_true",
        help="give the lengths to the operators of an ONNX file: faster in onnxruntime, and "
        "wrong in most other runtimes (see docs/runtimes.md)",
    )  # fmt: skip
    parser.add_argument(
        "--output", type=Path, metavar="FILE",
        help="where to; for Keras also a .weights.h5, for Flax also a .safetensors (default: "
        "state_dict.safetensors, model.onnx, model.keras or params.msgpack in the folder of the "
        "run)",
    )  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    source = options.save_dir / options.model_state_file
    classifier = load_saved(source)
    output = options.output or options.save_dir / FILES[options.format]
    _check_output(output, source, options.format)
    if options.sequence_lens and options.format != "onnx":
        raise InputError("sequence-lens is of an ONNX file; leave it out, or add --format onnx")
    layouts = {"pytorch": LAYOUTS, "flax": FORMS}.get(options.format, ())
    if options.layout is not None and options.layout not in layouts:
        has = f"has the layouts {', '.join(layouts)}" if layouts else "has no layouts"
        raise InputError(f"layout {options.layout}: the format {options.format} {has}")
    if options.format == "onnx":
        with needs("an export to ONNX", "onnx"):
            from npnlp.exchange.onnx_model import write_onnx
        write_onnx(classifier, output, sequence_lens=options.sequence_lens)
        hint = (
            "inputs tokens (batch, time) and lengths (batch), outputs logits and probabilities "
            "(batch, classes)"
        )
    elif options.format in SUFFIXES:
        write_model(classifier, output, options.format, options.layout or "")
        hint = f"see docs/frameworks.md; {HINTS[options.format]}"
    else:
        write_state_dict(classifier, output, options.layout or "pytorch")
        hint = "in PyTorch: model.load_state_dict(safetensors.torch.load_file(FILE))"
    if classifier.vectorizer.letter_case != AS_WRITTEN:
        hint += f"; names are put into {classifier.vectorizer.letter_case} case before"
    if classifier.vectorizer.split_at:
        kinds = " and ".join(classifier.vectorizer.split_at)
        hint += f"; names are split at {kinds} before, see docs/reading-names.md"
    print(f"{output}: {output.stat().st_size:,} bytes; {hint}")
    return 0


def _check_output(output: Path, source: Path, kind: str) -> None:
    suffixes = SUFFIXES.get(kind, (Path(FILES[kind]).suffix,))
    if output.suffix not in suffixes:
        raise InputError(
            f"output {output}: the name of this format has to end in {' or '.join(suffixes)}"
        )
    if output.resolve() in (source.resolve(), source.with_name("last.safetensors").resolve()):
        raise InputError(f"output {output}: a file of the run itself; choose another")
