"""Which score tells names of the training's kind from other strings?

Names of val and of test stand against as many as 2,000 random strings, in lengths drawn from
theirs, and against 200 well-known companies and products (``experiments/data``), by the area under
the curve; and so much of each is below the score that 2 % of the names of val are below. What the
models read is scored: names in their letter case. A model trained without a recipe and one with the
recipe ``wide`` have scores of their own: top probability, negative entropy, energy (the log of the
sum of exp of the logits), the distance of the hidden state from the nearest class (Mahalanobis).
The others are of n-gram models of the names of train; the last but one is the one that was built.
Test was read for this table only.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from npnlp.backend import get_backend
from npnlp.classifier.batches import by_length
from npnlp.classifier.classifier import Classifier
from npnlp.cli.script import add_table, guarded, script_parser
from npnlp.files import write_csv
from npnlp.lab.comparison import entrant_of
from npnlp.lab.ngram_models import NgramModel
from npnlp.lab.strings import area_under_curve, random_strings
from npnlp.runs.run import Run
from npnlp.text import SplitArrays, SurnameDataset
from npnlp.text import familiarity as built
from npnlp.text.encoding import encode_names
from npnlp.text.familiarity import Familiarity
from npnlp.training.config import TrainingConfig
from npnlp.training.recipes import RECIPES

OTHERS = Path(__file__).parent / "data" / "companies_and_products.txt"
RANDOM = 2000
SETS = ("val", "test", "random val", "random test", "companies")
#: A score of each string of each set.
Scores = Mapping[str, NDArray[Any]]
Names = Mapping[str, list[str]]


def trained(dataset: SurnameDataset, recipe: str, seed: int, epochs: int | None,
            out: Path) -> Classifier:  # fmt: skip
    """A classifier as ``npnlp train`` makes it."""
    entrant = entrant_of(recipe, RECIPES.get(recipe, {}))
    most = {} if epochs is None else {"num_epochs": epochs, "warm_up": 0.0}
    training = TrainingConfig(**{**entrant.training, "seed": seed, **most})
    run = Run.make(dataset, training, dict(entrant.shape), get_backend("numpy"), out / recipe)
    run.train()
    return run.classifier


def network_scores(
    classifier: Classifier, dataset: SurnameDataset, names: Names
) -> dict[str, Scores]:
    """The scores that a trained network has by itself."""
    model, train = classifier.model, dataset.arrays("train")

    def seen(split: SplitArrays) -> tuple[NDArray[Any], NDArray[Any]]:
        logits = np.empty((len(split), model.config.num_classes))
        hidden = np.empty((len(split), model.fc2.in_features if not model.config.hidden_layer
                           else model.fc1.in_features))  # fmt: skip
        for batch in by_length(split, model.backend):
            logits[batch.rows], cache = model.forward(**batch.inputs)
            hidden[batch.rows] = (cache.fc1 or cache.fc2).x
        return logits, hidden

    _, states = seen(train)
    means = np.stack([states[train.targets == c].mean(0) for c in range(model.config.num_classes)])
    precision = np.linalg.pinv(np.cov((states - means[train.targets]).T))
    found: dict[str, dict[str, NDArray[Any]]] = {}
    for kind, strings in names.items():
        tokens, lengths = encode_names(strings, classifier.vectorizer.char_vocab)
        steps = lengths.astype(np.int64)
        logits, hidden = seen(SplitArrays(tokens.astype(np.int64), np.cumsum(steps) - steps, steps,
                                          np.zeros(len(steps), dtype=np.int64)))  # fmt: skip
        energy = np.logaddexp.reduce(logits, axis=1)
        logs = logits - energy[:, None]
        far = np.stack([((hidden - m) @ precision * (hidden - m)).sum(1) for m in means], axis=1)
        for name, score in (
            ("top probability", logs.max(axis=1)),
            ("negative entropy", (np.exp(logs) * logs).sum(axis=1)),
            ("energy", energy),
            ("Mahalanobis distance, negative", -far.min(axis=1)),
        ):
            found.setdefault(name, {})[kind] = score
    return dict(found)


def scored(names: Names, score: Callable[[str], float]) -> Scores:
    """The score of each string."""
    return {kind: np.array([score(name) for name in strings]) for kind, strings in names.items()}


def for_lengths(scores: Scores, names: Names) -> Scores:
    """How many standard deviations each is above the mean of val's names of about this length."""
    lengths = {kind: np.array(list(map(len, strings))) for kind, strings in names.items()}
    table = {}
    for n in np.unique(np.concatenate(list(lengths.values()))).tolist():
        like = scores["val"][np.argsort(np.abs(lengths["val"] - n), kind="stable")[:100]]
        table[n] = like.mean(), max(like.std(), 1e-9)
    return {kind: np.array([(s - table[n][0]) / table[n][1] for s, n in
                            zip(own, lengths[kind].tolist(), strict=True)])
            for kind, own in scores.items()}  # fmt: skip


def ngram_scores(train: list[str], names: Names, size: int) -> dict[str, Scores]:
    """The scores of models of all names of train together."""
    found: dict[str, Scores] = {}
    for title, kneser_ney in (("Witten-Bell", False), ("Kneser-Ney", True)):
        for order in (2, 3, 4, 5):
            model = NgramModel(train, order, size, kneser_ney)
            logs = {kind: [model.log_probabilities(name) for name in strings]
                    for kind, strings in names.items()}  # fmt: skip
            ways: dict[str, Callable[[NDArray[Any]], float]] = {"mean": lambda each: each.mean()}
            if order == 5:
                ways |= {"sum": lambda each: each.sum(), "least": lambda each: each.min()}
            for way, of in ways.items():
                found[f"{title} {order}, {way} of log P"] = {
                    kind: np.array([of(each) for each in own]) for kind, own in logs.items()
                }
    found["Kneser-Ney 5, mean of log P, for the length"] = for_lengths(
        found["Kneser-Ney 5, mean of log P"], names)  # fmt: skip
    found["longest known n-gram, mean"] = scored(names, lambda s: model.known_orders(s).mean())
    found["fraction of known trigrams"] = scored(
        names, lambda s: float((model.known_orders(s) >= 3).mean())
    )
    return found


def class_scores(dataset: SurnameDataset, names: Names, size: int) -> dict[str, Scores]:
    """The scores of a model of each class: the likeliest class, and all by their frequencies."""
    frame, vectorizer = dataset.frames["train"], dataset.get_vectorizer()
    found: dict[str, Scores] = {}
    for title, order, kneser_ney in (
        ("Witten-Bell 3", 3, False), ("Kneser-Ney 3", 3, True), ("Kneser-Ney 4", 4, True),
    ):  # fmt: skip
        groups = [vectorizer.as_read(own) for _, own in frame.groupby("nationality")["surname"]]
        models = [NgramModel(group, order, size, kneser_ney) for group in groups]
        prior = np.log([len(group) / len(frame) for group in groups])[:, None]
        sums = {kind: np.array([[model.log_probabilities(name).sum() for name in strings]
                                for model in models])
                for kind, strings in names.items()}  # fmt: skip
        steps = {kind: np.array(list(map(len, strings))) + 1 for kind, strings in names.items()}
        found[f"{title} by class, likeliest"] = {k: sums[k].max(0) / steps[k] for k in names}
        found[f"{title} by class, mixture"] = {
            k: np.logaddexp.reduce(sums[k] + prior) / steps[k] for k in names
        }
    return found


def built_scores(dataset: SurnameDataset, names: Names) -> tuple[dict[str, Scores], int]:
    """The score that was built, with and without its contrast and its classes; its bytes."""
    vocab, train = dataset.get_vectorizer().char_vocab, dataset.arrays("train")
    encoded = {kind: encode_names(strings, vocab) for kind, strings in names.items()}
    model = Familiarity.of(train.tokens, train.lengths, len(vocab), train.targets)
    alone = Familiarity.of(train.tokens, train.lengths, len(vocab))
    found: dict[str, Scores] = {}
    for title, of, weight in (("built, of one class", alone, Familiarity.contrast),
                              ("built, without contrast", model, 0.0),
                              ("built: familiarity", model, Familiarity.contrast)):  # fmt: skip
        of.contrast = weight
        found[title] = {kind: of.scores(*each) for kind, each in encoded.items()}
    return found, sum(tensor.nbytes for tensor in model.to_tensors().values())


def row_of(title: str, scores: Scores) -> dict[str, Any]:
    """A row of the table."""
    threshold = np.sort(scores["val"])[int(built.FRACTION * len(scores["val"]))]
    areas = {
        f"{split}_against_{kind.split()[0]}": area_under_curve(scores[split], scores[kind])
        for split in ("val", "test") for kind in (f"random {split}", "companies")
    }  # fmt: skip
    below = {f"below_{kind.replace(' ', '_')}": float((scores[kind] < threshold).mean())
             for kind in SETS}  # fmt: skip
    return {"score": title, **areas, **below}


def main() -> int:
    """Train two models, measure every score, print a table, write a CSV."""
    parser = script_parser(__doc__, "out/familiarity")
    add_table(parser)
    options = parser.parse_args()
    others = OTHERS.read_text(encoding="utf-8").splitlines()
    count, rows = (100, []) if options.quick else (RANDOM, [])
    for recipe in tqdm(("default", "wide"), unit="model", disable=None):
        dataset = SurnameDataset.load_dataset_and_make_vectorizer(options.surname_csv)
        options.out.mkdir(parents=True, exist_ok=True)
        classifier = trained(dataset, recipe, options.seed, 1 if options.quick else None,
                             options.out)  # fmt: skip
        held = {split: dataset.frames[split]["surname"].tolist() for split in ("val", "test")}
        made = {f"random {split}": random_strings(count, own, options.seed)
                for split, own in held.items()}  # fmt: skip
        given = {**held, **made, "companies": others}
        names = {kind: dataset.get_vectorizer().as_read(given[kind]) for kind in SETS}
        network = network_scores(classifier, dataset, names)
        rows += [row_of(f"{recipe}: {title}", scores) for title, scores in network.items()]
        of_built, size = built_scores(dataset, names)
        if recipe == "default":
            train = dataset.get_vectorizer().as_read(dataset.frames["train"]["surname"].tolist())
            tokens = len(dataset.get_vectorizer().char_vocab)
            found = {**ngram_scores(train, names, tokens), **class_scores(dataset, names, tokens),
                     **of_built}  # fmt: skip
            rows += [row_of(title, scores) for title, scores in found.items()]
        both = {kind: of_built["built: familiarity"][kind] + 0.4 * network["negative entropy"][kind]
                for kind in SETS}  # fmt: skip
        rows.append(row_of(f"built + 0.4 {recipe}: negative entropy", both))
    write_csv(options.out / "familiarity.csv", rows)
    print(f"names: {len(held['val']):,} of val, {len(held['test']):,} of test; {count:,} random "
          f"strings; {len(others)} companies and products; the one built has {size:,} bytes"
          )  # fmt: skip
    heads = ("val: random", "companies", "test: random", "companies",
             "below: val", "test", "random (test)", "companies")  # fmt: skip
    print(f"{'area under the curve':<46}" + "".join(f"{head:>14}" for head in heads))
    for row in rows:
        values = [row[name] for name in row if name not in ("score", "below_random_val")]
        print(f"{row['score']:<46}" + "".join(f"{value:>14.3f}" for value in values))
    return 0


if __name__ == "__main__":
    sys.exit(guarded("familiarity.py", main))
