"""Whether trainers that differ in their seeds alone can share the launches of a device."""

from __future__ import annotations

from npnlp.backend.cuda.many import BLOCKS, Shape, Table, supports
from npnlp.text import SplitArrays
from npnlp.training.optimizers import Adam
from npnlp.training.trainer import Trainer

#: A block looks through all tokens for the rows of each.
MOST_TOKENS = 4096
#: A larger model fills a device by itself. Not yet measured.
MOST_UNITS = 256


def obstacle(trainer: Trainer) -> str:
    """Why a trainer cannot be one of many; empty where it can."""
    model, training = trainer.model, trainer.config
    config, cells = model.config, model.encoder.cells
    reasons = {
        "several processes share every batch": trainer.ranks.size > 1,
        f"this {config.cell}": len(cells) != 1 or not supports(cells[0].kind(), model.dtype),
        f"pooling {config.pooling}": config.pooling != "last",
        "a bag of n-grams": bool(config.ngram_orders),
        "no hidden layer": not config.hidden_layer,
        "embedding_dropout": bool(config.embedding_dropout),
        "char_dropout": bool(config.char_dropout),
        f"more than {MOST_TOKENS} characters": config.num_embeddings > MOST_TOKENS,
        f"more than {MOST_UNITS} units": config.rnn_hidden_size > MOST_UNITS,
        "an optimizer that is not plain adam": type(trainer.optimizer) is not Adam,
        "targets that are distributions": training.soft,
        "weights of rows": trainer.train.weights is not None or trainer.val.weights is not None,
        "typing_errors": bool(training.typing_errors),
    }
    if len(cells) > 1:
        return "more than one layer, or two directions"
    return next((reason for reason, found in reasons.items() if found), "")


def no_room(trainer: Trainer, count: int, memory: tuple[int, int] | None) -> str:
    """Why ``count`` such trainers do not fit into half of ``memory``, free and total, or empty."""
    size, tables = trainer.config.batch_size, [table_of(s) for s in (trainer.train, trainer.val)]
    rows, steps = (max(t.longest(n) for t in tables) for n in (size, 1))
    shape = shape_of(trainer)
    each = shape.bytes_of(size, rows, steps)
    needed = max(count, BLOCKS) * each + 5 * count * trainer.model.flat.values.nbytes
    if memory is None or 2 * needed <= memory[0]:
        return ""
    return f"{count} models need {needed / 1e9:.1f} GB, of {memory[0] / 1e9:.1f} GB that are free"


def shape_of(trainer: Trainer) -> Shape:
    """The sizes of its model."""
    config, flat = trainer.model.config, trainer.model.flat
    return Shape(
        trainer.model.encoder.cells[0].kind(), trainer.model.dtype.name, config.num_embeddings,
        config.embedding_size, config.rnn_hidden_size, config.num_classes, config.padding_idx,
        tuple(value.size for value in flat.parameters.values()),
    )  # fmt: skip


def table_of(split: SplitArrays) -> Table:
    """The arrays of a split."""
    return Table(split.tokens, split.starts, split.lengths, split.targets)
