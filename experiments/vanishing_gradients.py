"""Where gradients vanish or explode, and which factor of the chain rule it is.

Long random sequences without training, and the surname model before and after it: the gradient by
lag beside its bound, over the epochs, with both factors of the Jacobian apart, and clipped. A
sentence for each picture says what it shows, from the numbers in the CSV that it is drawn from.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from npnlp.backend import Random
from npnlp.classifier.flow import write_flow
from npnlp.cli.pictures import add_format, add_language, output_of
from npnlp.cli.script import add_table, guarded, script_parser
from npnlp.files import write_csv, write_json, write_table
from npnlp.files.pictures import Output
from npnlp.gradients.flow import COLUMNS
from npnlp.lab import findings
from npnlp.lab.pictures import vanishing as pictures
from npnlp.lab.starts import (
    STARTS,
    factor_rows,
    flow_on_random,
    jacobians_on_random,
    layer_at,
    singular_value_rows,
)
from npnlp.lab.vanishing import before_and_after, clipping_run
from npnlp.text import SurnameDataset
from npnlp.training.config import TrainingConfig

DEFAULT, EXPLODING = "default, tanh", "exploding, ReLU"
#: Starts on long random sequences, and of the surname model: what explodes is shown with clipping.
LONG = [name for name in STARTS if name != DEFAULT]
TRAINED = [name for name in STARTS if name != EXPLODING]
MAX_NORM = 1.0
LENGTH, EPOCHS, STEPS = 100, 30, 60
#: Beyond this the exploding start leaves the numbers that there are.
LONGEST = 1000
#: The longest sequences of the exploding start; its gradient grows by a quarter each step.
CLIPPED = 30


def random_sequences(out: Path, length: int, seed: int) -> None:
    """Untrained layers on long sequences: flow, factors and products of Jacobians, a CSV each."""
    flows, factors, products = [], [], []
    for name in LONG:
        layer = layer_at(STARTS[name], Random(seed, "layer"))
        table = flow_on_random(layer, length, 32, Random(seed, "sequences")).table()
        flows += [[name, int(row[0]), *row[1:]] for row in table.tolist()]
        seen = jacobians_on_random(layer, length, Random(seed, "sequence"))
        factors += [[name, *row] for row in factor_rows(seen)]
        products += [{"start": name, **row} for row in singular_value_rows(seen)]
    write_table(out / "vanishing_starts.csv", ["start", *COLUMNS], flows)
    write_table(out / "vanishing_factors.csv", ["start", "factor", "place", "value"], factors)
    write_csv(out / "vanishing_jacobians.csv", products)


def surnames(out: Path, dataset: SurnameDataset, config: TrainingConfig) -> None:
    """The surname model before and after training from each start."""
    rows, scores = [], []
    for name in tqdm(TRAINED, unit="run", disable=None):
        before, after, accuracy, trainer = before_and_after(dataset, STARTS[name], config)
        for when, flow in (("at first", before), ("trained", after)):
            rows += [[name, when, int(row[0]), *row[1:]] for row in flow.table().tolist()]
        scores.append({
            "start": name, "epochs": len(trainer.progress.history), "test_accuracy": accuracy,
            "sigma_max": before.sigma_max, "sigma_max_trained": after.sigma_max,
        })  # fmt: skip
        if name == DEFAULT:
            write_flow(out / "vanishing_epochs.csv", trainer.flow, trainer.flow_layers)
    write_table(out / "vanishing_surnames.csv", ["start", "when", *COLUMNS], rows)
    write_csv(out / "vanishing_scores.csv", scores)


def clipping(out: Path, length: int, steps: int, seed: int) -> None:
    """Some steps of training from the exploding start, with and without clipping."""
    rows = []
    with np.errstate(all="ignore"):
        for max_norm in (MAX_NORM, None):
            found = clipping_run(STARTS[EXPLODING], length, steps, max_norm, Random(seed, "clip"))
            rows += [{"clipping": "off" if max_norm is None else "on", **row} for row in found]
    write_csv(out / "vanishing_clipping.csv", rows)


#: Each picture is drawn from the CSV of its name, and its sentence is made from it.
PICTURES = {
    "vanishing_starts": (pictures.starts, findings.starts),
    "vanishing_jacobians": (pictures.jacobians, findings.jacobians),
    "vanishing_factors": (pictures.factors, findings.factors),
    "vanishing_surnames": (pictures.surnames, findings.surnames),
    "vanishing_epochs": (pictures.epochs, findings.epochs),
    "vanishing_clipping": (pictures.clipping, findings.clipping),
}


def draw(output: Output) -> dict[str, str]:
    """Every picture; the sentence of each."""
    sentences = {}
    for name, (drawn, say) in PICTURES.items():
        table = pd.read_csv(output.folder / f"{name}.csv")
        drawn(table, output.path(name), output.language)
        sentences[name] = say(table)
    return sentences


def main() -> int:
    """Measure, write, draw and print."""
    parser = script_parser(__doc__, "out/vanishing_gradients")
    add_table(parser)
    add_format(parser)
    add_language(parser)
    parser.add_argument("--length", type=int, default=LENGTH, help="steps of the long sequences")
    parser.add_argument("--num-epochs", type=int, default=EPOCHS, help="of the surname model")
    options = parser.parse_args()
    if not 2 <= options.length <= LONGEST:
        parser.error(f"--length is {options.length}; give 2 to {LONGEST}")
    output = output_of(options, options.out)
    length, epochs, steps = options.length, options.num_epochs, STEPS
    if options.quick:
        length, epochs, steps = min(length, 20), 2, 5
    config = TrainingConfig(num_epochs=epochs, seed=options.seed)
    dataset = SurnameDataset.load_dataset_and_make_vectorizer(options.surname_csv)
    options.out.mkdir(parents=True, exist_ok=True)
    with np.errstate(over="ignore"):  # a bound may be infinite
        random_sequences(options.out, length, options.seed)
    clipping(options.out, min(length, CLIPPED), steps, options.seed)
    surnames(options.out, dataset, config)
    sentences = draw(output)
    write_json(options.out / "sentences.json", sentences)
    for name, sentence in sentences.items():
        print(f"{output.path(name).name}: {sentence}")
    return 0


if __name__ == "__main__":
    sys.exit(guarded("vanishing_gradients.py", main))
