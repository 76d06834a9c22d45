"""The CuPy backend against NumPy, in whole: on a device, and on its kernels run by the C++ shim."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from npnlp.backend import Backend, Random, get_backend
from npnlp.backend.cuda import recurrence
from npnlp.backend.operations import AdamNumbers, LookedUp
from npnlp.errors import DeviceError
from npnlp.layers import GRU, LSTM, Elman, GRUResetBefore, Packing
from npnlp.models import ClassifierConfig, SurnameClassifier
from npnlp.text import SplitArrays, SurnameDataset, own_table_path
from npnlp.training.config import TrainingConfig
from npnlp.training.trainer import Trainer
from tests.backend.cuda.test_kernels_recurrence import ShimDevice
from tests.support.cupy_on_shim import CupyOnShim, declared
from tests.support.door import adam_step, cross_entropy
from tests.support.reference import assert_close, draw
from tests.support.shim import require_compiler

NUMPY = get_backend("numpy")


@pytest.fixture(params=["shim", pytest.param("cupy", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Backend:
    if request.param == "shim":
        require_compiler()
        monkeypatch.setattr(recurrence, "device_of", lambda xp: ShimDevice())
        return CupyOnShim()
    try:
        return get_backend("cupy")
    except DeviceError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("initial", [True, False])
@pytest.mark.parametrize(
    ("cell", "options"),
    [(Elman, {}), (Elman, {"nonlinearity": "relu"}), (GRU, {}), (LSTM, {}), (GRUResetBefore, {})],
)
def test_a_layer_is_numpys_through_its_kernels(
    device: Backend, cell: Any, options: dict[str, Any], initial: bool
) -> None:
    lengths, tokens = np.array([3, 7, 1, 5]), np.arange(16) % 6
    found = []
    for backend in (NUMPY, device):
        layer = cell(5, 16, backend=backend, **options)
        states = [backend.asarray(draw(3 + n, 4, 16).astype(np.float32)) for n in
                  range(len(layer.states) if initial else 0)]  # fmt: skip
        packing = Packing.of(lengths, backend)
        table = backend.asarray(draw(1, 6, 5).astype(np.float32))
        outputs, cache = layer.forward(
            LookedUp(table, backend.asarray(tokens)), *states, packing=packing
        )
        above = backend.asarray(draw(2, 16, 16).astype(np.float32))
        gradients = layer.backward((above, *outputs[1:]), cache)
        arrays = [*outputs, *(d for d in gradients if d is not None), *layer.grads.values()]
        found.append([backend.to_numpy(array) for array in arrays])
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(theirs, ours, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("shape", [(1,), (17,), (64, 100), (0, 4), (300, 301)])
def test_masks_are_the_same_bits(device: Backend, shape: tuple[int, ...]) -> None:
    random = Random(2**63 + 7, "training.dropout1", 12)
    mask = device.to_numpy(device.keep_mask(random, shape, 0.3))
    np.testing.assert_array_equal(mask, random.keep(shape, 0.3))


@pytest.mark.parametrize("size", [3, 80, 1000])
def test_segment_sums_are_numpys_and_repeat(device: Backend, size: int) -> None:
    values = draw(size, 600, 70).astype(np.float32)
    segments = np.random.default_rng(size).integers(0, size, 600)
    inputs = device.asarray(values), device.asarray(segments)
    first, second = (device.to_numpy(device.segment_sum(*inputs, size)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert_close(first, NUMPY.segment_sum(values, segments, size), 1e-5)


@pytest.mark.parametrize("classes", [1, 18, 300])
def test_softmax_losses_are_numpys(device: Backend, classes: int) -> None:
    logits = 20 * draw(classes, 9, classes).astype(np.float32)
    targets, d_losses = np.arange(9) % classes, draw(1, 9).astype(np.float32)

    def on(backend: Backend) -> list[Any]:
        passes = cross_entropy(backend, logits)
        found, losses = passes.forward(backend.asarray(logits), backend.asarray(targets))
        backward = [
            passes.backward(given, found, backend.asarray(targets))
            for given in (backend.asarray(d_losses), 0.25)
        ]
        return [backend.to_numpy(array) for array in (found, losses, *backward)]

    for found, expected in zip(on(device), on(NUMPY), strict=True):
        assert_close(found, expected, 1e-5)


def test_adam_is_numpys(device: Backend) -> None:
    def on(backend: Backend) -> list[Any]:
        values, *moments = (backend.asarray(abs(draw(k, 999)).astype(np.float32)) for k in range(3))
        for step in range(5):
            grads = backend.asarray(draw(5 + step, 999).astype(np.float32))
            numbers = AdamNumbers(0.9, 0.999, 1e-2, 1e-8)
            adam_step(backend, values, grads, (moments[0], moments[1]), numbers)
        return [backend.to_numpy(array) for array in (values, *moments)]

    for found, expected in zip(on(device), on(NUMPY), strict=True):
        assert_close(found, expected, 1e-5)


def trainer(backend: Backend, epochs: int = 1) -> Trainer:
    dataset = SurnameDataset.load_dataset_and_make_vectorizer(own_table_path())
    vectorizer = dataset.get_vectorizer()
    sizes = len(vectorizer.char_vocab), len(vectorizer.nationality_vocab)
    config = ClassifierConfig(*sizes, embedding_size=8, rnn_hidden_size=8)
    model = SurnameClassifier(config, backend=backend, random=Random(1, "model"))
    whole = dataset.arrays("val")
    some = np.linspace(0, len(whole) - 1, 300).astype(int)  # of all nationalities
    part = [getattr(whole, name)[some] for name in ("starts", "lengths", "targets")]
    split = SplitArrays(whole.tokens, *part)
    return Trainer(model, split, split, TrainingConfig(num_epochs=epochs, seed=1))


def losses(made: Trainer) -> Any:
    made.run_epoch()
    return made.model.backend.to_numpy(made.log)[:, 0].copy()


def test_an_epoch_has_the_loss_curve_of_numpy_and_repeats_to_the_same_bits(
    device: Backend,
) -> None:
    first, second = trainer(device), trainer(device)
    found = losses(first)
    np.testing.assert_array_equal(losses(second), found)
    for name, value in first.model.state_dict().items():
        np.testing.assert_array_equal(second.model.state_dict()[name], value)
    np.testing.assert_allclose(found, losses(trainer(NUMPY)), rtol=1e-4)
    if isinstance(device, CupyOnShim):
        assert set(device.kernels.launched) >= {
            "dropout", "softmax_losses", "softmax_losses_backward", "segment_order",
            "segment_sum", "adam_step",
        }  # fmt: skip


@pytest.mark.parametrize("towards", ["device", "numpy"])
def test_a_checkpoint_moves_between_backends_unchanged(device: Backend, towards: str) -> None:
    here, there = (NUMPY, device) if towards == "device" else (device, NUMPY)
    begun, moved = trainer(here, 2), trainer(there, 2)
    begun.run_epoch()
    tensors, values = begun.state()
    moved.load_state(tensors, values)
    again, _ = moved.state()
    assert again.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(again[name], tensor, err_msg=name)
    np.testing.assert_allclose(losses(moved), losses(begun), rtol=1e-4)


@pytest.mark.gpu
def test_a_working_device_is_described() -> None:
    try:
        backend = get_backend("cupy")
    except DeviceError as error:
        pytest.skip(str(error))
    assert {"cupy", "cuda", "driver", "device", "compute_capability"} <= backend.describe().keys()
    memory = backend.memory()
    assert memory is not None
    assert 0 < memory[0] <= memory[1]


@pytest.mark.gpu
@pytest.mark.parametrize("real", ["float", "double"])
@pytest.mark.parametrize("file", ["philox.cu", "adam.cu", "softmax.cu", "segment_sum.cu"])
def test_the_kernels_compile_on_the_device(file: str, real: str) -> None:
    try:
        backend: Any = get_backend("cupy")
    except DeviceError as error:
        pytest.skip(str(error))
    compiled: Callable[..., Any] = backend.kernels.get
    for name in declared(file, ()):
        assert compiled(file, name, f"-DREAL={real}") is not None
