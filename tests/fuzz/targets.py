"""Every reader of files: bytes go in, and out comes one of three verdicts.

A file is *accepted*, with a result that holds what every result has to hold; or it is *refused*, by
an :class:`InputError` of one line that begins with the file; anything else is a *finding*: another
exception, a warning, no end, something run or imported, a file written or removed.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
import unicodedata
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from npnlp.backend import get_backend
from npnlp.classifier.classifier import Classifier
from npnlp.diagnosis.arrays import check_step
from npnlp.diagnosis.replay import read_replay, write_replay
from npnlp.errors import DivergenceError, InputError
from npnlp.exchange import read_state_dict, write_state_dict
from npnlp.files.tensor_file import read_tensor_file
from npnlp.models import SurnameClassifier
from npnlp.runs.checkpoint import load_checkpoint, save_checkpoint, settings_of
from npnlp.runs.checkpoint_state import plain_state
from npnlp.runs.run import Run
from npnlp.text import SurnameDataset, SurnameVectorizer, read_table
from npnlp.text.rows import SPLITS
from npnlp.training.config import TrainingConfig
from npnlp.training.step_record import Replay
from tests.support.exchange import bare
from tests.support.tables import write_table

#: Seconds of computing after which a reader is taken to hang; whole files take some thousandths.
NO_END = 60.0
LONGEST_MESSAGE = 1500
NUMPY = get_backend("numpy")
ROWS = [(nation, split, name) for nation, names in
        {"Aa": ("ab", "ba", "abc", "\u00e9a"), "Bb": ("bb", "cb", "bcb", "b c")}.items()
        for split, name in zip(("train", "train", "val", "test"), names, strict=True)]  # fmt: skip


@dataclass(frozen=True)
class Target:
    """A reader: the files it is made for, and what holds of whatever it accepts.

    ``look`` also uses what was read, which takes longer; it is done for one file in ``share``. The
    name of a file ends in ``suffix``.
    """

    name: str
    format: str
    samples: tuple[bytes, ...]
    read: Callable[[Path], Any]
    check: Callable[[Any, bytes], None]
    look: Callable[[Any], None] = lambda result: None
    share: int = 8
    suffix: str = ""


@dataclass(frozen=True)
class Verdict:
    """``finding`` is what is wrong, or empty."""

    accepted: bool
    finding: str
    seconds: float


def verdict(target: Target, content: bytes, folder: Path, no_end: float = NO_END) -> Verdict:
    """What ``target`` makes of a file with this content; the only one in ``folder``, for now."""
    path = folder / f"file{target.suffix}"
    put(path, content)
    result: Any = None
    raised: BaseException | None = None
    started = time.process_time()
    with watched() as events, warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            with watchdog(no_end):
                result = target.read(path)
        except (Exception, Hung) as error:
            raised = error
    seconds = time.process_time() - started
    if raised is None:
        finding = wrong_result(target, result, content)
    elif isinstance(raised, InputError):
        finding = wrong_message(str(raised), str(path))
    else:
        finding = "".join(traceback.format_exception(raised))
    if events:
        finding += f"did {sorted(set(events))}\n"
    if os.listdir(folder) != [path.name]:  # noqa: PTH208 - a list of names, and fast
        finding += f"left {os.listdir(folder)}\n"  # noqa: PTH208
    return Verdict(raised is None, finding, seconds)


class Hung(BaseException):
    """No exception that a reader might turn into a refusal."""


@contextmanager
def watchdog(seconds: float) -> Iterator[None]:
    """Raise :class:`Hung` after so many seconds of computing, where the system can tell."""
    if not hasattr(signal, "setitimer"):
        yield
        return

    def bark(number: int, frame: object) -> None:
        raise Hung

    before = signal.signal(signal.SIGPROF, bark)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def put(path: Path, content: bytes) -> None:
    """Write over what is there, which takes a hundredth of the time that a new file would."""
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT), "wb", buffering=0) as file:
        file.write(content)
        file.truncate(len(content))


def wrong_message(message: str, path: str) -> str:
    """What is wrong with the message of a refusal, or nothing."""
    if not message.startswith(f"{path}: ") or len(message) < len(path) + 8:
        return f"does not name the file: {message!r}\n"
    if not message.isprintable():
        return f"not one printable line: {message!r}\n"
    if len(message) > LONGEST_MESSAGE:
        return f"too long, {len(message)}: {message[:200]!r}\n"
    return ""


def wrong_result(target: Target, result: Any, content: bytes) -> str:
    """What is wrong with something accepted, or nothing."""
    try:
        with np.errstate(all="ignore"):
            target.check(result, content)
            if zlib.crc32(content) % target.share == 0:
                target.look(result)
    except (InputError, DivergenceError):
        return ""  # what was read may be unfit for use, and say so
    except Exception:
        return "accepted, but " + traceback.format_exc()
    return ""


# --- what is done meanwhile

#: Beginnings of what the interpreter reports before it runs, loads, sends or changes something.
ACTIONS = (
    "exec", "compile", "import", "code.", "marshal.", "pickle.", "ctypes.", "subprocess.",
    "socket.", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.spawn", "os.remove",
    "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod",
    "shutil.", "tempfile.", "urllib.", "webbrowser.",
)  # fmt: skip
_events: list[str] | None = None
_hooked = False


@contextmanager
def watched() -> Iterator[list[str]]:
    """What is run, loaded or written inside; a file that is only read does not count."""
    global _events, _hooked
    if not _hooked:  # a hook cannot be taken away again
        sys.addaudithook(_note)
        _hooked = True
    events: list[str] = []
    _events = events
    try:
        yield events
    finally:
        _events = None


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if _events is None:
        return
    writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
    if event == "open" and type(arguments[2]) is int and arguments[2] & writes:
        _events.append(f"open {arguments[0]!r} to write")
    elif event == "import" and arguments[0] == "pyarrow":
        pass  # a file that begins as Parquet does is for it to read, where it is installed
    elif event.startswith(ACTIONS):
        _events.append(f"{event} {arguments!r:.80}")


# --- the readers


def targets(folder: Path) -> dict[str, Target]:
    """All of them, by name; their files are made in ``folder`` by this project itself."""
    run = small_run(folder)
    models = [classifier for _, classifier in small_models(run)]
    contents: dict[str, list[bytes]] = {"model": [], "import": []}
    for place, classifier in enumerate(models):
        path = folder / f"{place}.safetensors"
        classifier.save(path)
        contents["model"].append(path.read_bytes())
        write_state_dict(classifier, path)
        contents["import"].append(path.read_bytes())
        bare(path, classifier.model.state_dict())
        contents["import"].append(path.read_bytes())
    write_state_dict(models[0], path, "seed")
    contents["import"].append(path.read_bytes())
    run.dataset.save_vectorizer(run.vectorizer_file)
    vectorizer, last = run.vectorizer_file.read_bytes(), run.checkpoint_file
    checkpoints, settings = [], settings_of(run.trainer, run.dataset)
    for _ in range(2):  # before the first epoch, and after it
        save_checkpoint(last, run.trainer, settings)
        checkpoints.append(last.read_bytes())
        run.trainer.run_epoch()
    replays = []
    for split in ("train", "val"):
        step = run.trainer.record(np.array([1, 0]), split, 1)
        write_replay(last, replace(step, names=("ab", "ba")))
        replays.append(last.read_bytes())
    every = (contents["model"][0], contents["import"][1], checkpoints[1], replays[0])
    made = (
        Target("table", "csv", (write_table(folder / "t.csv", ROWS).read_bytes(),),
               read_table, check_table),
        Target("dataset", "csv", (write_table(folder / "t.csv", ROWS).read_bytes(),),
               SurnameDataset.load_dataset_and_make_vectorizer, lambda dataset, content: None),
        Target("vectorizer", "json", (vectorizer,),
               SurnameDataset.load_vectorizer_only, check_vectorizer),
        Target("tensors", "safetensors", every, read_tensor_file, check_tensors),
        Target("model", "safetensors", tuple(contents["model"]),
               Classifier.load, check_classifier, look_at_classifier),
        Target("checkpoint", "safetensors", tuple(checkpoints),
               lambda path: resumed(run, settings, path), check_trainer, look_at_trainer, 32),
        Target("replay", "safetensors", tuple(replays),
               read_replay, check_replay, look_at_replay, 16),
        Target("import", "safetensors", tuple(contents["import"]),
               lambda path: read_state_dict(path, run.vectorizer_file),
               check_classifier, look_at_classifier),
    )  # fmt: skip
    return {target.name: target for target in made}


def small_run(folder: Path) -> Run:
    """A run on eight names, before it begins."""
    dataset = SurnameDataset.load_dataset_and_make_vectorizer(
        write_table(folder / "small.csv", ROWS)
    )
    config = TrainingConfig(num_epochs=3, batch_size=2, seed=5, class_weights="inverse")
    shape = {"embedding_size": 2, "rnn_hidden_size": 2}
    (folder / "run").mkdir(exist_ok=True)
    return Run.make(dataset, config, shape, NUMPY, folder / "run")


def small_models(run: Run) -> Iterator[tuple[str, Classifier]]:
    """Classifiers of several shapes with the vocabularies of ``run``."""
    shapes: dict[str, dict[str, Any]] = {
        "elman": {},
        "gru": {"cell": "gru", "bidirectional": True, "pooling": "attention"},
        "lstm": {"cell": "lstm", "num_layers": 2, "pooling": "mean"},
        "transformer": {"cell": "transformer", "rnn_hidden_size": 4},
        "ngrams": {"ngram_orders": (1, 2), "num_ngrams": 3, "ngram_size": 2},
    }
    for name, fields in shapes.items():
        config = replace(run.trainer.model.config, **fields)
        yield name, Classifier(SurnameClassifier(config), run.dataset.get_vectorizer())


# --- what holds of whatever is accepted


def check_table(frame: Any, content: bytes) -> None:
    assert len(frame)
    assert (frame["row"] > 0).all()
    assert frame["row"].is_monotonic_increasing
    for name in set(frame) - {"row"}:
        for value in frame[name]:
            assert value
            assert value == unicodedata.normalize("NFC", value).strip()
    assert set(frame.get("split", ())) <= set(SPLITS)


def check_vectorizer(vectorizer: SurnameVectorizer, content: bytes) -> None:
    said = vectorizer.to_serializable()
    assert SurnameVectorizer.from_serializable(said).to_serializable() == said
    for vocabulary in (vectorizer.char_vocab, vectorizer.nationality_vocab):
        tokens = vocabulary.tokens
        assert [vocabulary.lookup_token(token) for token in tokens] == list(range(len(tokens)))
        "".join(tokens).encode()
    numbers, length = vectorizer.vectorize("ab\u2603")
    assert len(numbers) == length == 5
    assert 0 <= numbers.min() <= numbers.max() < len(vectorizer.char_vocab)


def check_tensors(result: Any, content: bytes) -> None:
    """The library that defined the format reads the same; it may accept more, and not less."""
    tensors, _ = result
    theirs = dict(safetensors.deserialize(content))  # type: ignore[no-untyped-call]
    assert tensors.keys() == theirs.keys()
    for name, tensor in tensors.items():
        assert list(tensor.shape) == theirs[name]["shape"]
        assert tensor.tobytes() == bytes(theirs[name]["data"])


def check_classifier(classifier: Classifier, content: bytes) -> None:
    check_vectorizer(classifier.vectorizer, content)
    config = classifier.model.config
    assert len(classifier.vectorizer.char_vocab) == config.num_embeddings
    assert len(classifier.vectorizer.nationality_vocab) == config.num_classes
    assert np.isfinite(classifier.model.flat.values).all()
    assert classifier.model.flat.values.size == config.parameter_count < len(content)


def look_at_classifier(classifier: Classifier) -> None:
    (prediction,) = classifier.predict(["ab\u2603"], top_k=10**6)
    assert len(prediction.top) == classifier.model.config.num_classes


def resumed(run: Run, settings: dict[str, Any], path: Path) -> Run:
    """The run after the checkpoint; where that is refused, nothing of it may be taken over."""
    trainer = run.trainer
    before = fingerprint(run)
    try:
        load_checkpoint(path, trainer, settings)
    except InputError:
        assert fingerprint(run) == before
        raise
    return run


def fingerprint(run: Run) -> tuple[int, str]:
    tensors, values = plain_state(run.trainer)
    return zlib.crc32(b"".join(tensor.tobytes() for tensor in tensors.values())), repr(values)


def check_trainer(run: Run, content: bytes) -> None:
    trainer = run.trainer
    assert np.isfinite(trainer.model.flat.values).all()
    assert len(trainer.progress.history) <= trainer.progress.epoch


def look_at_trainer(run: Run) -> None:
    run.trainer.run_epoch()
    run.trainer.finish()


def check_replay(step: Replay, content: bytes) -> None:
    assert step.config.parameter_count < len(content)
    assert len(step.lengths) == len(step.targets) == len(step.rows)


def look_at_replay(step: Replay) -> None:
    assert check_step(step, NUMPY)
