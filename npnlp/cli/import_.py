"""``npnlp import``: a model of PyTorch, Keras or Flax becomes a saved model."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from npnlp.classifier.classifier import Classifier
from npnlp.errors import InputError
from npnlp.exchange import Choices, read_model
from npnlp.files import write_atomic
from npnlp.layers.pooling.by_name import POOLINGS
from npnlp.layers.recurrent.cells import RESETS
from npnlp.layers.recurrent.elman import NONLINEARITIES
from npnlp.models import ClassifierConfig

MODEL, VECTORIZER = "model.safetensors", "vectorizer.json"


HELP = "take over a model of PyTorch, Keras or Flax"
DESCRIPTION = (
    "Take over a state dict that safetensors.torch.save_file or torch.save wrote: of a model with "
    "emb, an encoder (nn.RNN, nn.GRU, nn.LSTM or the notebook's class around nn.RNNCell, below any "
    "one name), fc1 and fc2. Or a model of Keras 3, or the parameters of one of Flax: an "
    "embedding, recurrent layers, linear layers. What a file does not say, options say."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument(
        "file",
        type=Path,
        metavar="FILE",
        help="the state dict: a .safetensors, or a .pt or .pth where PyTorch is installed; of "
        "Keras a .keras or .weights.h5 (needs h5py), of Flax a .msgpack or .safetensors",
    )
    parser.add_argument(
        "--save-dir", type=Path, required=True, metavar="DIR",
        help="where the model goes, a folder without one; has to be given",
    )  # fmt: skip
    add_choices(parser)


def add_choices(parser: argparse.ArgumentParser) -> None:
    """Options for what a bare state dict does not say; see :func:`choices_of`."""
    group = parser.add_argument_group(
        "what a file does not say",
        "a file of npnlp export says it itself, a .msgpack and a .weights.h5 aside",
    )
    group.add_argument(
        "--vectorizer-file", type=Path, metavar="FILE",
        help="its vocabularies, in the layout of vectorizer.json (default: the file's own)",
    )  # fmt: skip
    group.add_argument("--nonlinearity", choices=NONLINEARITIES,
                       help="of an Elman cell (default: tanh)")  # fmt: skip
    group.add_argument(
        "--reset", choices=RESETS, help="of a GRU; PyTorch's and Flax's is after (default: after)"
    )
    group.add_argument(
        "--pooling", metavar="NAME",
        help=f"of the states: {', '.join(POOLINGS)}, or several joined by + (default: attention "
        "where that has weights, else last)",
    )  # fmt: skip
    group.add_argument("--num-heads", type=int, metavar="N", help="of a transformer (default: 4)")


def choices_of(options: argparse.Namespace) -> Choices:
    """The choices that were given."""
    return Choices(options.nonlinearity, options.reset, options.pooling, options.num_heads)


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    said: list[str] = []
    classifier = read_model(options.file, options.vectorizer_file, choices_of(options), said)
    model, vectorizer = options.save_dir / MODEL, options.save_dir / VECTORIZER
    for path, taken in ((model, None), (vectorizer, options.vectorizer_file)):
        if path.exists() and (taken is None or path.resolve() != taken.resolve()):
            raise InputError(f"{path}: is there already; choose another --save-dir")
    options.save_dir.mkdir(parents=True, exist_ok=True)
    contents = json.dumps(classifier.vectorizer.to_serializable(), ensure_ascii=False)
    write_atomic(vectorizer, contents + "\n")
    classifier.save(model)
    print(f"{model}: {described(classifier)}")
    if said:
        print(f"{options.file}: read {', '.join(said)}")
    return 0


def described(classifier: Classifier) -> str:
    """The model in a line: what was read, and what was assumed."""
    config: ClassifierConfig = classifier.model.config
    detail = {
        "elman": f" {config.nonlinearity}", "gru": f", reset {config.reset}",
        "transformer": f", {config.num_heads} heads",
    }.get(config.cell, "")  # fmt: skip
    both = ", both directions" if config.bidirectional else ""
    return (
        f"{config.cell}{detail}, {config.num_layers} x {config.rnn_hidden_size}{both}, "
        f"pooling {config.pooling}; {config.num_embeddings} characters, "
        f"{config.num_classes} nationalities, {config.parameter_count:,} numbers"
    )
