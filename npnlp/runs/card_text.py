"""The words of a model card, with places for its figures."""

from string import Template

#: By what the labels are called: what a name does not tell.
TELLS_NOT = {
    "nationality": """\
- **A surname does not tell a person's nationality, ethnicity, origin, religion or language.**
  People marry, move, are adopted and change their names. The model answers which nationality's
  names of its table a text resembles, and nothing about whoever bears it.""",
    "class": """\
- **A name does not tell a person's sex, origin, religion, language or anything else about them.**
  The model answers which class's names of its table a text resembles, and nothing about whoever
  bears it.""",
}

NOT_FOR = """\
- Do not use it, alone or as one input of several, for any decision about people: not in hiring,
  credit, housing, insurance, policing, border control, medicine, education, advertising or
  moderation, and not to sort, count or profile people by a guessed $guessed.
- Its classes are those of its table and no others. A name from elsewhere, a word or a slip of the
  keyboard gets one of them too, and may get a high probability: by itself it cannot answer "none",
  unless it is told when not to answer (below, "When to answer").
- Figures are averages over rows of a table, where each row counts once however many people bear
  the name; they say nothing about a single name, and its frequencies are not those of a population.
- Errors do not fall on all alike, and $labels with few rows fare worse as a rule: see the
  table by $label."""

#: By whether the table is the one that comes with npnlp.
LICENCES = {
    True: (
        "The rows are those of the table that comes with npnlp: MIT licence, the part taken from "
        "Faker under Faker's own MIT licence. How it was compiled and what it lacks is in its data "
        "card, `npnlp/data/README.md`."
    ),
    False: (
        "Origin and licence of the table are unknown to npnlp: it was given by whoever trained the "
        "model, and whoever passes the model on has to state them here."
    ),
}

TEMPLATE = Template("""\
# Model card: a $name classifier

`npnlp` wrote this card when training ended. The model reads a $name and gives a probability to
each of $classes $labels; all figures are those of the weights in $model_name, dropout off,
every row counted. It is for learning how recurrent networks read text, for teaching it, and for
comparing methods on this task.

## What it must not be used for

$tells_not
$not_for

## Model

$model

## Data

$data

$balance

$licence

## Training

$training

The weights were chosen by their loss on val, so the figures on val are a little too good; this run
chose nothing by test.

## Results

$results

### By $label, on test

$by_nationality

### Names that training has seen, and others

$seen

Names are compared as they are spelled. Where train and test share names, only the second row says
what to expect of new ones.

### Are its probabilities to be believed?

$calibration

`reliability.png` draws it.

### When to answer

$decisions

## How to load it

```python
from npnlp import Classifier

classifier = Classifier.load($model_file)
print(classifier.predict([$example], top_k=3))
```

Nothing in the file is executed.

## Environment

$environment
""")
