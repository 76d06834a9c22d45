"""``npnlp train``: train, evaluate, draw, save and predict."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from npnlp.backend import Backend, get_backend
from npnlp.backend.worth import seconds_saved
from npnlp.classifier.building import model_settings
from npnlp.classifier.classifier import Classifier
from npnlp.cli.failure import DONE, INTERRUPTED
from npnlp.cli.options import (
    add_backend,
    add_save_dir,
    add_surname_csv,
    columns_of,
)
from npnlp.cli.outcome import metrics_table, samples_of
from npnlp.cli.page import after_run
from npnlp.cli.pictures import add_pictures, require_font
from npnlp.cli.ranks import add_distributed, joined
from npnlp.cli.script import ending, leave_output
from npnlp.cli.threads import add_threads, asked_threads
from npnlp.cli.train_options import DEFAULTS, add_model, add_training
from npnlp.cli.train_seeds import add_seeds, require_seeds, run_seeds
from npnlp.errors import InputError
from npnlp.runs.checkpoint import align
from npnlp.runs.report import write_report
from npnlp.runs.run import Run, require_elsewhere
from npnlp.runs.seeds import Work
from npnlp.text import SurnameDataset, own_table_path
from npnlp.text.audit import audit_lines
from npnlp.text.splits import SPLIT_BY
from npnlp.training.applicable import require_applicable
from npnlp.training.config import TrainingConfig
from npnlp.training.distributed.data import dataset_of_first
from npnlp.training.interrupt import Interrupted
from npnlp.training.ranks import Alone
from npnlp.training.recipes import RECIPES

QUICK = {"num_epochs": 2}


HELP = "train the surname classifier"
DESCRIPTION = "Train the surname classifier, evaluate it, draw it, save it and try it."


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add = parser.add_argument
    data = parser.add_argument_group("data")
    add_surname_csv(data)
    data.add_argument(
        "--split-by", choices=SPLIT_BY,
        help="keep the CSV's split, divide 70/15/15 by nationality, or divide so that a name "
        "stands in one split only (default: column where there is one, else nationality)",
    )  # fmt: skip
    add_save_dir(parser)
    add("--vectorizer-file", default="vectorizer.json", metavar="FILE",
        help="the vocabularies, in the folder of the run")  # fmt: skip
    add(
        "--recipe",
        choices=list(RECIPES),
        help="settings that go together, printed in full; options given beside it override them",
    )
    model = parser.add_argument_group("model")
    add_model(model)
    add_training(parser.add_argument_group("training"))
    add_backend(parser)
    add("--reload-from-files", action="store_true",
        help="start from the vocabularies and weights in the folder of the run")  # fmt: skip
    add("--resume", action="store_true",
        help="continue the run in the folder where it stopped, or start it")  # fmt: skip
    add("--overwrite", action="store_true",
        help="replace the model of another run in the folder, and what was made of it")  # fmt: skip
    add_threads(parser)
    add_distributed(parser)
    add_seeds(parser)
    add("--quick", action="store_true", help="two epochs, unless --num-epochs is given")
    add_pictures(parser)
    add("--quiet", action="store_true", help="print nothing on standard output, show no bars")


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    with joined("npnlp train", options.distributed, options.save_dir) as ranks:
        return _run(options, ranks)


def _run(options: argparse.Namespace, ranks: Alone) -> int:
    def say(line: str = "") -> None:
        if options.quiet or not ranks.first:
            return
        try:
            print(line, flush=True)
        except BrokenPipeError:  # the reader has closed the pipe; training goes on
            leave_output()
        except OSError as error:
            raise OSError(error.errno, error.strerror, "standard output") from error

    options = _complete(options, say)
    if options.pictures:
        require_font(options.language)
    local = ranks.local_rank
    given = None if options.backend == "auto" else get_backend(options.backend, local_rank=local)
    if options.resume and options.reload_from_files:
        raise InputError("--resume and --reload-from-files exclude each other; give one of them")
    require_seeds(options)
    config = TrainingConfig(**{name: getattr(options, name) for name in vars(DEFAULTS)})
    dataset = dataset_of_first(ranks, lambda: _dataset(options))
    backend = given or _chosen(options, dataset, local)
    if backend.reason:
        say(backend.reason)
    training = Run.make(
        dataset,
        config,
        _shape(options),
        backend,
        options.save_dir,
        options.model_state_file,
        options.vectorizer_file,
        ranks,
    )
    say(f"Data: {options.surname_csv or 'the table that comes with npnlp'}")
    for line in audit_lines(training.audit) if ranks.first else ():
        say(f"  {line}")
    if options.seeds is not None:
        work = Work(
            dataset, vars(config), _shape(options), backend.name, options.model_state_file,
            options.vectorizer_file, options.resume, options.overwrite,
            after_run(options),
        )  # fmt: skip
        return run_seeds(options, work, say)
    try:
        with training.lock if ranks.first else nullcontext():
            _start(training, options, say)
            align(training.trainer)
            with asked_threads(options, say):
                if not ranks.first:
                    training.follow()
                    return DONE
                training.train(bars=not options.quiet)
            _finish(training, options, say)
    except KeyboardInterrupt as stop:
        if ranks.size > 1 and not isinstance(stop, Interrupted):
            raise  # ends all ranks
        return _interrupted(training, stop) if ranks.first else DONE
    except OSError as error:
        again = "what was saved before is whole; once that is mended, continue with --resume"
        raise OSError(error.errno, f"{error.strerror}; {again}", error.filename) from error
    return DONE


def _chosen(
    options: argparse.Namespace, dataset: SurnameDataset, local_rank: int | None
) -> Backend:
    """The backend for ``auto``, by the work there is."""
    layers = options.num_layers * (2 if options.bidirectional else 1)
    rows = len(dataset.arrays("train"))
    saved = seconds_saved(options.cell, options.rnn_hidden_size, layers, rows, options.num_epochs)
    return get_backend("auto", saved, options.cell, local_rank)


def _interrupted(training: Run, stop: KeyboardInterrupt) -> int:
    """Say where the run stands; the status."""
    progress = training.trainer.progress
    where = f"after epoch {progress.epoch}"
    if progress.batch:
        where = f"in epoch {progress.epoch + 1} after batch {progress.batch}"
    if isinstance(stop, Interrupted):
        saved = f"saved in {training.checkpoint_file}, continue with --resume"
    else:
        saved = f"not saved here; --resume continues from {training.checkpoint_file}, if there"
    ending()
    print(f"npnlp train: interrupted {where}; {saved}", file=sys.stderr)
    return INTERRUPTED


def _complete(options: argparse.Namespace, say: Callable[[str], None]) -> argparse.Namespace:
    """The options, with the values of ``--recipe`` and ``--quick`` for those not given.

    Raises :class:`InputError` for one that is given and cannot apply.
    """
    recipe = {
        "char_embedding_size" if name == "embedding_size" else name: value
        for name, value in RECIPES.get(options.recipe, {}).items()
    }
    given = _given(options)
    chosen = vars(options) | recipe | (QUICK if options.quick else {}) | given
    require_applicable(given, chosen)
    if options.recipe:
        say(f"Recipe {options.recipe}:")
    for name, value in recipe.items():
        changed = "" if chosen[name] == value else f" (in the recipe: {value})"
        say(f"  {name} = {chosen[name]}{changed}")
    return argparse.Namespace(**chosen)


def _given(options: argparse.Namespace) -> dict[str, Any]:
    """The options that stand on the command line."""
    absent = object()
    blank = argparse.Namespace(**dict.fromkeys(vars(options), absent))  # so no default is set
    command = options.arguments.index("train")
    again = options.parser.parse_args(options.arguments[command + 1 :], blank)
    return {name: value for name, value in vars(again).items() if value is not absent}


def _dataset(options: argparse.Namespace) -> SurnameDataset:
    csv = options.surname_csv or own_table_path()
    require_elsewhere(csv, options.save_dir, options.model_state_file, options.vectorizer_file)
    vectorizer_file = options.save_dir / options.vectorizer_file
    if options.reload_from_files:
        return SurnameDataset.load_dataset_and_load_vectorizer(
            csv, vectorizer_file, options.split_by, columns_of(options)
        )
    columns = columns_of(options)
    return SurnameDataset.load_dataset_and_make_vectorizer(csv, options.split_by, columns)


def _shape(options: argparse.Namespace) -> dict[str, Any]:
    return model_settings(vars(options) | {"embedding_size": options.char_embedding_size})


def _start(training: Run, options: argparse.Namespace, say: Callable[[str], None]) -> None:
    """Begin at the beginning, at saved weights, or at a checkpoint."""
    trainer = training.trainer
    if options.reload_from_files:
        saved = Classifier.load(training.model_file, trainer.model.backend)
        if saved.model.config != trainer.model.config:
            raise InputError(
                f"{training.model_file}: that model is {saved.model.config}, this one "
                f"{trainer.model.config}; give the same options and the same table"
            )
        ours = training.dataset.get_vectorizer().vocabularies()
        if saved.vectorizer.vocabularies() != ours:
            raise InputError(
                f"{training.vectorizer_file}: not the vocabularies that {training.model_file} was "
                "trained with; restore them, or train without --reload-from-files"
            )
        trainer.model.load_state_dict(saved.model.state_dict())
        trainer.begin_from_here()
        say(f"Weights: from {training.model_file}")

    def of_first() -> bytes:
        _resume_or_begin(training, options, say)
        return b""

    trainer.ranks.first_does(of_first)


def _resume_or_begin(
    training: Run, options: argparse.Namespace, say: Callable[[str], None]
) -> None:
    """What rank 0 does, from whose state all ranks begin."""
    trainer = training.trainer
    if options.resume and training.resume():
        say(f"Resuming: {trainer.progress.epoch} epochs done")
        if trainer.progress.stopped_early:
            say(
                f"It stopped early, after {trainer.stopper.bad_epochs} epochs that were not "
                "better; a larger --early-stopping-criteria lets it go on"
            )
    elif options.overwrite:
        for path in training.remove_derived():
            say(f"removed {path}, which was made of the model before")
    elif not (options.overwrite or options.reload_from_files):
        training.require_room()


def _finish(training: Run, options: argparse.Namespace, say: Callable[..., None]) -> None:
    evaluations = training.evaluate()
    write_report(training, evaluations)
    progress = training.trainer.progress
    why = "no better validation loss" if progress.stopped_early else "all done"
    say(f"\nTrained {len(progress.history)} epochs ({why}); best: epoch {progress.best_epoch + 1}")
    say()
    for line in metrics_table(evaluations):
        say(line)
    say()
    samples = samples_of(training)
    predictions = training.classifier.predict(list(samples), top_k=3)
    for prediction, of_table in zip(predictions, samples.values(), strict=True):
        top = ", ".join(f"{name} {probability:.2f}" for name, probability in prediction.top)
        say(f"{prediction.surname:<10} {top}{of_table}")
    say()
    written = [training.model_file, training.checkpoint_file, training.vectorizer_file]
    names = ("metrics.json", "history.csv", "gradient_flow.csv", "confusion_matrix.csv",
             "reliability.csv", "MODEL_CARD.md")  # fmt: skip
    tables = [training.save_dir / name for name in names]
    after = after_run(options)
    pictures = after(training.save_dir, say) if after else []  # last: all else is there
    for path in (*written, *tables, *pictures):
        say(f"wrote {path}")
