"""The surname classifier in PyTorch. Only this file imports it.

``torch_model(config)`` has this project's names, so state dicts fit both ways:

    model = torch_model(classifier.model.config)
    model.load_state_dict(safetensors.torch.load_file("state_dict.safetensors"))
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import cross_entropy, dropout
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from npnlp.errors import InputError, short
from npnlp.layers.attention.transformer import MAX_POSITIONS
from npnlp.models import ClassifierConfig
from npnlp.models.characters import SPECIAL_TOKENS

VERSION = f"PyTorch {torch.__version__}"


#: Before this version, reading weights only could be made to run code (CVE-2025-32434).
SAFE = (2, 6)
#: Under which key a checkpoint has its state dict.
NESTED = ("state_dict", "model_state_dict")


def weights_of(path: Path) -> dict[str, NDArray[Any]]:
    """The state dict that ``torch.save`` wrote, also as an entry of :data:`NESTED`.

    Raises :class:`InputError` for another content, and for a PyTorch that does not read safely.
    """
    save = "save model.state_dict() with safetensors.torch.save_file"
    if tuple(map(int, torch.__version__.split(".")[:2])) < SAFE:
        raise InputError(f"a pickle, which PyTorch reads safely from version 2.6 on; {save}")
    try:
        with warnings.catch_warnings(action="ignore"), path.open("rb") as file:
            found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged file makes PyTorch raise
        why = short(" ".join(str(error).split()), 80)
        raise InputError(f"a pickle that is not weights only (PyTorch: {why}); {save}") from error
    if isinstance(found, Mapping):
        found = next((found[name] for name in NESTED if name in found), found)
    if not isinstance(found, Mapping) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) and value.layout is torch.strided
        for name, value in found.items()
    ):
        raise InputError(f"a pickle of something else than tensors by name; {save}")
    plain = {n: v.float() if v.dtype is torch.bfloat16 else v for n, v in found.items()}
    return {name: value.detach().numpy().copy() for name, value in plain.items()}


def torch_pass(
    config: ClassifierConfig,
    state: Mapping[str, NDArray[Any]],
    tokens: NDArray[np.int64],
    lengths: NDArray[np.int64],
    targets: NDArray[np.int64],
) -> tuple[NDArray[Any], NDArray[Any], dict[str, NDArray[Any]]]:
    """Logits ``(B, C)`` of padded ``tokens (B, T)``, the mean cross-entropy and its gradients.

    The gradients are by name; all are in the dtype of ``state``. Nothing is dropped.
    """
    values = {name: torch.tensor(np.array(value)) for name, value in state.items()}
    model = TorchClassifier(config).to(values["emb.weight"].dtype).eval()
    model.load_state_dict(values, strict=True)
    with _one_thread():
        logits = model(torch.tensor(tokens), torch.tensor(lengths))
        loss = cross_entropy(logits, torch.tensor(targets))
        loss.backward()
    grads = {name: value.grad.numpy() for name, value in model.named_parameters()}
    return logits.detach().numpy(), loss.detach().numpy(), grads


@contextmanager
def _one_thread() -> Iterator[None]:
    """With few names, several threads mostly wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class TorchClassifier(nn.Module):  # type: ignore[misc]
    """Embedding, encoder, pooling, linear, ReLU, linear; dropout before both linear layers.

    It starts with PyTorch's initial weights. Dropout is as in ``config``, and off in ``eval()``.
    PyTorch has no variational dropout, so training with ``variational`` is refused.
    """

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        size, features = config.rnn_hidden_size, config.features
        self.emb = nn.Embedding(
            config.num_embeddings, config.embedding_size, padding_idx=config.padding_idx
        )
        self.rnn = _encoder(config)
        if "attention" in config.poolings:
            self.pool = AttentionPooling(config.directions * size)
        if config.ngram_orders:
            self.ngrams = NgramBag(config)
        if config.hidden_layer:
            self.fc1 = nn.Linear(features, size)
            features = size
        self.fc2 = nn.Linear(features, config.num_classes)

    def forward(self, tokens: Any, lengths: Any) -> Any:
        """Logits ``(B, C)`` of padded ``tokens (B, T)`` and ``lengths (B,)``, none of them 0."""
        config = self.config
        if self.training and config.variational and config.rnn_dropout:
            raise InputError("PyTorch has no variational dropout; leave it out, or call eval()")
        hidden, last = self._states(self._read(tokens).transpose(0, 1), lengths)
        seen = [self._pool(name, hidden, last, lengths) for name in config.poolings]
        if config.ngram_orders:
            seen.append(self.ngrams(tokens, lengths))
        z = dropout(torch.cat(seen, dim=1), config.dropout, self.training)
        if config.hidden_layer:
            z = dropout(torch.relu(self.fc1(z)), config.dropout, self.training)
        return self.fc2(z)

    def _read(self, tokens: Any) -> Any:
        """See :class:`npnlp.models.characters.CharacterEmbedding`: ``(B, T, D)``."""
        config = self.config
        if self.training and config.char_dropout:
            kept = torch.rand(tokens.shape, device=tokens.device) >= config.char_dropout
            tokens = torch.where(kept | (tokens < SPECIAL_TOKENS), tokens, config.unk_idx)
        x = self.emb(tokens)
        return x * dropout(torch.ones_like(x[:, :1]), config.embedding_dropout, self.training)

    def _states(self, x: Any, lengths: Any) -> tuple[Any, Any]:
        """All states ``(T, B, F)``, undefined past the end, and the last ones ``(B, F)``."""
        if isinstance(self.rnn, Transformer):
            hidden = self.rnn(x, lengths)
            return hidden, hidden[lengths - 1, torch.arange(len(lengths))]
        packed = pack_padded_sequence(x, lengths.cpu(), enforce_sorted=False)
        output, final = self.rnn(packed)
        h_n = final[0] if isinstance(final, tuple) else final
        hidden, _ = pad_packed_sequence(output)
        return hidden, torch.cat(tuple(h_n[-self.config.directions :]), dim=1)

    def _pool(self, pooling: str, hidden: Any, last: Any, lengths: Any) -> Any:
        if pooling == "last":
            return last
        steps = torch.arange(len(hidden), device=hidden.device)
        past = (steps[:, None] >= lengths)[:, :, None]
        if pooling == "mean":
            return hidden.masked_fill(past, 0).sum(dim=0) / lengths[:, None]
        if pooling == "max":
            return hidden.masked_fill(past, -torch.inf).max(dim=0).values
        return self.pool(hidden, past)


torch_model = TorchClassifier


class AttentionPooling(nn.Module):  # type: ignore[misc]
    """See :class:`npnlp.layers.pooling.attention.AttentionPooling`."""

    def __init__(self, features: int) -> None:
        super().__init__()
        bound = features**-0.5
        for name, shape in {
            "weight": (features, features), "bias": (features,), "context": (features,),
        }.items():  # fmt: skip
            first = torch.empty(shape).uniform_(-bound, bound)
            self.register_parameter(name, nn.Parameter(first))

    def forward(self, hidden: Any, past: Any) -> Any:
        """``(B, F)`` of states ``(T, B, F)``, without those ``past (T, B, 1)`` a sequence's end."""
        e = torch.tanh(hidden @ self.weight.T + self.bias) @ self.context
        alpha = e[:, :, None].masked_fill(past, -torch.inf).softmax(dim=0)
        return (alpha * hidden).sum(dim=0)


class NgramBag(nn.Module):  # type: ignore[misc]
    """See :class:`npnlp.layers.ngrams.NgramBag`."""

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        shape = (config.num_ngrams, config.ngram_size)
        self.weight = nn.Parameter(0.1 * torch.randn(shape))
        self.register_buffer("keys", torch.arange(config.num_ngrams))

    def forward(self, tokens: Any, lengths: Any) -> Any:
        """``(B, F)`` of padded ``tokens (B, T)``."""
        config, steps = self.config, torch.arange(tokens.shape[1], device=tokens.device)
        own = key = tokens + 1
        total: Any = 0
        count: Any = 0
        for n in range(1, max(config.ngram_orders) + 1):
            if n > 1:
                before = nn.functional.pad(key, (1, 0))[:, :-1]
                key = before * (config.num_embeddings + 1) + own
            if n in config.ngram_orders:
                rows = torch.searchsorted(self.keys, key).clamp(max=len(self.keys) - 1)
                known = self.keys[rows] == key
                known = known & (steps >= n - 1) & (steps < lengths[:, None])
                if self.training:
                    known = known & (
                        torch.rand(key.shape, device=key.device) >= config.ngram_dropout
                    )
                total = total + torch.where(known[:, :, None], self.weight[rows], 0).sum(dim=1)
                count = count + known.sum(dim=1)
        return total / count.clamp(min=1).to(self.weight.dtype).sqrt()[:, None]


class Transformer(nn.TransformerEncoder):  # type: ignore[misc]
    """``nn.TransformerEncoder`` (pre-norm, final norm) on a projection plus learned positions.

    It is time-major: PyTorch's fused path, which rounds otherwise, is for batch-first only.
    """

    def __init__(self, config: ClassifierConfig) -> None:
        size = config.rnn_hidden_size
        layer = nn.TransformerEncoderLayer(
            size, config.num_heads, 4 * size, config.rnn_dropout, norm_first=True
        )
        super().__init__(layer, config.num_layers, nn.LayerNorm(size), enable_nested_tensor=False)
        for made in self.layers:  # nn.TransformerEncoder makes them copies of one layer
            made.apply(lambda part: getattr(part, "reset_parameters", lambda: None)())
        self.input = nn.Linear(config.embedding_size, size)
        self.position = nn.Embedding(MAX_POSITIONS, size)
        nn.init.normal_(self.position.weight, std=0.02)
        self.dropout = config.rnn_dropout

    def forward(self, x: Any, lengths: Any) -> Any:
        """``(T, B, H)`` of ``x (T, B, D)``."""
        steps = torch.arange(len(x), device=x.device)
        h = self.input(x) + self.position(steps.clamp(max=MAX_POSITIONS - 1))[:, None]
        h = dropout(h, self.dropout, self.training)
        return super().forward(h, src_key_padding_mask=steps >= lengths[:, None])


class GRUResetBefore(nn.GRU):  # type: ignore[misc]
    """``nn.GRU`` with the reset gate before the product: a loop, since PyTorch has none."""

    def forward(self, packed: Any) -> tuple[Any, Any]:
        """The packed states of the last layer, and the last states of all layers ``(K, B, H)``."""
        x, lengths = pad_packed_sequence(packed)
        suffixes = ("", "_reverse") if self.bidirectional else ("",)
        lasts = []
        for k in range(self.num_layers):
            if k:
                x = dropout(x, self.dropout, self.training)
            outputs = []
            for suffix in suffixes:
                hidden, last = self._run(x, lengths.to(x.device), f"_l{k}{suffix}", bool(suffix))
                outputs.append(hidden)
                lasts.append(last)
            x = torch.cat(outputs, dim=2)
        return pack_padded_sequence(x, lengths, enforce_sorted=False), torch.stack(lasts)

    def _run(self, x: Any, lengths: Any, suffix: str, reverse: bool) -> tuple[Any, Any]:
        w_ih, w_hh, b_ih, b_hh = (
            getattr(self, name + suffix)
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        size = 2 * self.hidden_size
        h = x.new_zeros(x.shape[1], self.hidden_size)
        hidden: list[Any] = [None] * len(x)
        for t in reversed(range(len(x))) if reverse else range(len(x)):
            u = x[t] @ w_ih.T + b_ih + b_hh
            r, z = torch.sigmoid(u[:, :size] + h @ w_hh[:size].T).chunk(2, dim=1)
            n = torch.tanh(u[:, size:] + (r * h) @ w_hh[size:].T)
            h = torch.where((t < lengths)[:, None], n + z * (h - n), h)
            hidden[t] = h
        return torch.stack(hidden), h


def _encoder(config: ClassifierConfig) -> Any:
    if config.cell == "transformer":
        return Transformer(config)
    kinds = {"elman": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
    kind = (
        GRUResetBefore if (config.cell, config.reset) == ("gru", "before") else kinds[config.cell]
    )
    options = {"nonlinearity": config.nonlinearity} if config.cell == "elman" else {}
    return kind(
        config.embedding_size, config.rnn_hidden_size, num_layers=config.num_layers,
        bidirectional=config.bidirectional,
        dropout=config.rnn_dropout if config.num_layers > 1 else 0.0, **options,
    )  # fmt: skip
