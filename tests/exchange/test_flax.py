"""Flax, live: every row of the table of conversions, linen and nnx, both ways, with gradients.

The modules are those that docs/frameworks.md shows, run as they stand there.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from npnlp.classifier.classifier import Classifier
from npnlp.errors import InputError
from npnlp.exchange.choices import Choices
from npnlp.exchange.differences import own_pass
from npnlp.exchange.foreign import read_model, write_model
from npnlp.exchange.frameworks.flax_msgpack import msgpack_of, read_msgpack
from tests.support.exchange import C, V, bare, made, vectorizer_file
from tests.support.frameworks import NAMES, needed, same_gradients, same_logits
from tests.support.tables import ROOT, npnlp

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
PAGE = (ROOT / "docs/frameworks.md").read_text("utf-8")
CELLS: dict[tuple[str, str], dict[str, Any]] = {
    ("linen", "SimpleCell"): {"cell": "elman"}, ("linen", "GRUCell"): {"cell": "gru"},
    ("linen", "LSTMCell"): {"cell": "lstm"}, ("linen", "OptimizedLSTMCell"): {"cell": "lstm"},
    ("nnx", "SimpleCell"): {"cell": "elman"}, ("nnx", "GRUCell"): {"cell": "gru"},
    ("nnx", "LSTMCell"): {"cell": "lstm"}, ("nnx", "OptimizedLSTMCell"): {"cell": "lstm"},
}  # fmt: skip
each_cell = pytest.mark.parametrize(("form", "cell"), CELLS)
SHAPES = [(1, False), (2, True), pytest.param(1, True, marks=pytest.mark.slow),
          pytest.param(3, False, marks=pytest.mark.slow)]  # fmt: skip
SEEDS = [*range(3), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 20))]
Tree = dict[tuple[str, ...], NDArray[Any]]


@pytest.fixture(scope="module")
def flax() -> dict[str, Any]:
    """The modules of the page, and what loads and saves their parameters."""
    needed("msgpack")
    names: dict[str, Any] = {"__name__": "page", "linen": needed("flax.linen"),
                             "nnx": needed("flax.nnx"), "flax": needed("flax"),
                             "jax": needed("jax")}  # fmt: skip
    for source in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(compile(source, "docs/frameworks.md", "exec", dont_inherit=True), names)
    return names


@pytest.fixture(scope="module")
def models(flax: dict[str, Any]) -> Callable[..., Theirs]:
    """Models of the page, each compiled once."""
    return lru_cache(lambda form, cell, layers, both: Theirs(flax, form, cell, layers=layers,
                                                            both=both))  # fmt: skip


class Theirs:
    """A model of the page: its parameters as nested tables, and its logits and gradients."""

    def __init__(self, flax: dict[str, Any], form: str, cell: str, *, size: int = 5,
                 hidden: int = 6, layers: int = 1, both: bool = False) -> None:  # fmt: skip
        self.flax, jax, nnx = flax, flax["jax"], flax["nnx"]
        kind, sizes = getattr(flax[form], cell), (V, size, hidden, C)

        def loss(apply: Any) -> Any:
            logits = apply(NAMES.tokens, NAMES.lengths)
            logs = jax.nn.log_softmax(logits)
            return -logs[np.arange(len(NAMES.targets)), NAMES.targets].mean(), logits

        if form == "linen":
            self.model = flax["Linen"](kind, sizes, layers, both)
            made_of = jax.eval_shape(
                self.model.init, jax.random.key(0), NAMES.tokens, NAMES.lengths
            )
            self.run = jax.jit(jax.grad(
                lambda params: loss(lambda *x: self.model.apply(params, *x)), has_aux=True
            ))  # fmt: skip
        else:
            self.model = flax["Nnx"](kind, sizes, layers, both, rngs=nnx.Rngs(0))
            made_of = nnx.to_pure_dict(nnx.state(self.model, nnx.Param))
            run = nnx.jit(nnx.grad(loss, has_aux=True))

            def run_with(params: Any) -> Any:
                nnx.update(self.model, nnx.restore_int_paths(params))
                grads, logits = run(self.model)
                return nnx.to_pure_dict(grads), logits

            self.run = run_with
        random = np.random.default_rng(3)
        self.params = jax.tree.map(
            lambda x: 0.5 * random.normal(size=x.shape).astype(np.float32), made_of
        )

    def logits(self, params: Any) -> Any:
        return self.run(params)[1]

    def grads(self) -> Any:
        """Of the mean cross-entropy."""
        return self.run(self.params)[0]

    def saved(self, path: Path, params: Any = None) -> Path:
        """As Flax's own ``to_bytes``, or safetensors with flat names, by the suffix."""
        params = self.params if params is None else params
        if path.suffix == ".msgpack":
            path.write_bytes(self.flax["flax"].serialization.to_bytes(params))
            return path
        flat = self.flax["flax"].traverse_util.flatten_dict(params)
        return bare(path, {"/".join(map(str, k)): np.asarray(v) for k, v in flat.items()})

    def restored(self, path: Path) -> Any:
        return self.flax["flax"].serialization.msgpack_restore(path.read_bytes())


@pytest.mark.parametrize(("layers", "both"), SHAPES)
@each_cell
def test_parameters_are_read_with_equal_outputs_and_gradients(
    models: Callable[..., Theirs], form: str, cell: str, layers: int, both: bool, tmp_path: Path
) -> None:
    theirs = models(form, cell, layers, both)
    said: list[str] = []
    path, vectorizer = theirs.saved(tmp_path / "theirs.msgpack"), vectorizer_file(tmp_path)
    taken = read_model(path, vectorizer, said=said)
    config = taken.model.config
    assert (config.cell, config.num_layers, config.bidirectional) == (
        CELLS[form, cell]["cell"], layers, both,
    )  # fmt: skip
    assert said[0].startswith(f"{form} ")
    same_logits(taken, theirs.logits(theirs.params))
    grads = read_model(theirs.saved(tmp_path / "grads.msgpack", theirs.grads()), vectorizer)
    absent = {"lstm": "bias_ih", "elman": "bias_hh", "gru": "bias_hh"}[config.cell]
    wanted = {k: v for k, v in grads.model.state_dict().items() if absent not in k}
    ours = own_pass(taken.model, NAMES)[2]
    same_gradients(ours, wanted)
    if (form, cell) == ("linen", "GRUCell"):  # which has the bias of one gate on that side
        size = config.rnn_hidden_size
        hn = {k: v[2 * size :] for k, v in grads.model.state_dict().items() if absent in k}
        same_gradients({k: v[2 * size :] for k, v in ours.items() if k in hn}, hn)


@pytest.mark.parametrize(("layers", "both"), SHAPES)
@pytest.mark.parametrize(("form", "cell"), [at for at in CELLS if "Optimized" not in at[1]])
def test_parameters_are_written_and_applied_by_flax(
    flax: dict[str, Any], models: Callable[..., Theirs], form: str, cell: str, layers: int,
    both: bool, tmp_path: Path,
) -> None:  # fmt: skip
    classifier = made(**CELLS[form, cell], num_layers=layers, bidirectional=both)
    if (form, cell) == ("nnx", "GRUCell"):
        without_b_hn(classifier)
    path = tmp_path / "ours.msgpack"
    write_model(classifier, path, "flax", form)
    theirs = models(form, cell, layers, both)
    same_logits(classifier, theirs.logits(theirs.restored(path)))
    if form == "linen":  # what from_bytes compares: the names that the module has
        taken = flax["flax"].serialization.from_bytes(theirs.params, path.read_bytes())
        same_logits(classifier, theirs.logits(taken))
    same_logits(read_model(path, vectorizer_file(tmp_path)), own_pass(classifier.model, NAMES)[0])
    write_model(classifier, tmp_path / "ours.safetensors", "flax", form)
    back = read_model(tmp_path / "ours.safetensors")
    assert back.model.config == classifier.model.config
    same_logits(back, own_pass(classifier.model, NAMES)[0])


def without_b_hn(classifier: Classifier) -> None:
    size = classifier.model.config.rnn_hidden_size
    for name, value in classifier.model.parameters.items():
        if "bias_hh" in name:
            value[2 * size :] = 0


def test_nnx_has_no_bias_inside_the_reset(flax: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "ours.msgpack"
    with pytest.raises(InputError, match="rnn_l0: b_hn is not zero, and nnx's GRUCell has none"):
        write_model(made(cell="gru"), path, "flax", "nnx")
    assert not path.exists()
    write_model(made(cell="gru"), path, "flax", "linen")


@pytest.mark.parametrize("seed", SEEDS)
def test_random_shapes_both_ways(flax: dict[str, Any], seed: int, tmp_path: Path) -> None:
    random = np.random.default_rng(seed)
    form, cell = list(CELLS)[seed % len(CELLS)]
    theirs = Theirs(
        flax, form, cell, size=int(random.integers(1, 12)), hidden=int(random.integers(1, 12)),
        layers=int(random.integers(1, 3)), both=bool(random.integers(2)),
    )  # fmt: skip
    path = theirs.saved(tmp_path / "theirs.safetensors")
    taken = read_model(path, vectorizer_file(tmp_path))
    same_logits(taken, theirs.logits(theirs.params))
    write_model(taken, tmp_path / "back.msgpack", "flax", form)
    same_logits(read_model(tmp_path / "back.msgpack", vectorizer_file(tmp_path)),
                theirs.logits(theirs.params))  # fmt: skip
    if (form, cell) != ("nnx", "OptimizedLSTMCell"):  # which is written as LSTMCell
        back = read_msgpack(tmp_path / "back.msgpack")
        for name, value in read_msgpack(theirs.saved(tmp_path / "same.msgpack")).items():
            np.testing.assert_array_equal(back[name], value)


def compact(flax: dict[str, Any], both: bool, size: int, hidden: int) -> Any:
    """Cells that linen creates in a compact method have no module around them in their names."""
    linen = flax["linen"]

    class Compact(linen.Module):  # type: ignore[misc, name-defined]
        @linen.compact  # type: ignore[untyped-decorator]
        def __call__(self, tokens: Any, lengths: Any) -> Any:
            h = linen.Embed(V, size)(tokens)
            for _ in range(2):
                if both:
                    one, two = (linen.RNN(linen.GRUCell(hidden)) for _ in range(2))
                    h = linen.Bidirectional(one, two)(h, seq_lengths=lengths)
                else:
                    h = linen.RNN(linen.GRUCell(hidden))(h, seq_lengths=lengths)
            rows = np.arange(len(tokens))
            last = h[rows, lengths - 1]
            if both:
                jnp = needed("jax.numpy")
                last = jnp.concatenate([last[:, :hidden], h[:, 0, hidden:]], axis=1)
            return linen.Dense(C)(linen.relu(linen.Dense(hidden)(last)))

    return Compact()


@pytest.mark.parametrize("both", [False, True])
def test_cells_of_a_compact_method_are_told_apart_by_shapes(
    flax: dict[str, Any], both: bool, tmp_path: Path
) -> None:
    model, jax = compact(flax, both, 6, 6), flax["jax"]
    params = jax.jit(model.init)(jax.random.key(1), NAMES.tokens, NAMES.lengths)
    assert set(params["params"]) >= {"Embed_0", "GRUCell_0", "GRUCell_1", "Dense_0"}
    path = tmp_path / "compact.msgpack"
    path.write_bytes(flax["flax"].serialization.to_bytes(params))
    taken = read_model(path, vectorizer_file(tmp_path))
    assert (taken.model.config.num_layers, taken.model.config.bidirectional) == (2, both)
    same_logits(taken, jax.jit(model.apply)(params, NAMES.tokens, NAMES.lengths))


def test_msgpack_is_written_as_flax_writes_it(flax: dict[str, Any]) -> None:
    random = np.random.default_rng(0)
    nested: Any = {}
    tree: Tree = {}
    for shape in ((), (1,), (3,), (2, 3), (40, 50), (300, 300), (0, 5), (1,) * 6):
        for name in (f"a{len(tree)}", "b" * 40 + str(len(tree))):
            value = random.normal(size=shape).astype(random.choice(["f2", "f4", "f8"]))
            tree["params", name, "kernel"] = value
            nested.setdefault(name, {})["kernel"] = value
    for number in range(20):
        nested[f"layer{number}"] = {"kernel": np.arange(3, dtype="int32")}
        tree["params", f"layer{number}", "kernel"] = np.arange(3, dtype="int32")
    content = flax["flax"].serialization.to_bytes({"params": nested})
    assert msgpack_of(tree) == content


def test_every_dtype_and_a_list_are_read(flax: dict[str, Any], tmp_path: Path) -> None:
    jnp = needed("jax.numpy")
    nested = {"rnn": [{"kernel": np.ones((2, 3), "f8")}, {"kernel": jnp.ones(5, "bfloat16")}],
              "n": np.float32(2), "k": np.arange(70000, dtype="uint8")}  # fmt: skip
    path = tmp_path / "a.msgpack"
    path.write_bytes(flax["flax"].serialization.to_bytes(nested))
    tree = read_msgpack(path)
    assert set(tree) == {("rnn", "0", "kernel"), ("rnn", "1", "kernel"), ("n",), ("k",)}
    np.testing.assert_array_equal(tree["rnn", "1", "kernel"], np.ones(5))
    np.testing.assert_array_equal(tree["k",], nested["k"])


def test_the_commands_take_and_give_parameters(flax: dict[str, Any], tmp_path: Path) -> None:
    theirs = Theirs(flax, "linen", "GRUCell", layers=2, both=True)
    path = theirs.saved(tmp_path / "theirs.msgpack")
    done = npnlp("import", path, "--save-dir", tmp_path / "new", "--vectorizer-file",
                 vectorizer_file(tmp_path))  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"read linen GRUCell from rnn_0.forward_rnn.cell, rnn_1.forward_rnn.cell" in done.stdout
    done = npnlp("export", "--save-dir", tmp_path / "new", "--format", "flax")
    assert (done.returncode, done.stderr) == (0, b"")
    restored = theirs.restored(tmp_path / "new" / "params.msgpack")
    taken = Classifier.load(tmp_path / "new" / "model.safetensors")
    same_logits(taken, theirs.logits(restored))
    with pytest.raises(InputError, match="reset is 'after' in this file"):
        read_model(path, vectorizer_file(tmp_path), Choices(reset="before"))
