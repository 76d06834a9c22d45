"""A classifier's PyTorch module put to the same use as ``npnlp predict``, as well as it goes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from npnlp.classifier.classifier import Classifier
from npnlp.cli.script import imports_of
from npnlp.text.encoding import clean_names, encode_names

with imports_of("torch"):
    import torch
    from torch.nn import functional
    from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

    from npnlp.exchange.torch_model import torch_model

__all__ = ["TorchReader", "torch"]


class TorchReader:
    """Names to probabilities with ``nn.RNN`` or ``nn.GRU``, packed, with a classifier's weights.

    Names are encoded by this project's own look-up and sorted by length, so that batches have no
    ragged ends; the embedding is looked up for the packed steps alone, and no gradient is kept.
    """

    def __init__(self, classifier: Classifier, batch: int = 512) -> None:
        self.config, self.batch = classifier.model.config, batch
        self.vocab = classifier.vectorizer.char_vocab
        self.module = torch_model(self.config).eval()
        state = classifier.model.state_dict()
        self.module.load_state_dict({name: torch.tensor(value) for name, value in state.items()})

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def probabilities(self, names: list[str]) -> NDArray[Any]:
        """``(n, C)``."""
        tokens, lengths = encode_names(clean_names(names), self.vocab)
        inside = np.arange(int(lengths.max())) < lengths[:, None]
        padded = np.zeros(inside.shape, dtype=np.int64)
        padded[inside] = tokens
        order = np.argsort(-lengths, kind="stable")
        rows, sizes = torch.from_numpy(padded[order]), torch.from_numpy(lengths[order])
        out = np.empty((len(names), self.config.num_classes), dtype=np.float32)
        for start in range(0, len(names), self.batch):
            length = sizes[start : start + self.batch]
            x = rows[start : start + self.batch, : int(length[0])]
            shares = self.logits(x, length).softmax(dim=1)
            out[order[start : start + self.batch]] = shares.numpy()
        return out

    def logits(self, tokens: Any, lengths: Any) -> Any:
        """``(B, C)`` of padded ``tokens (B, T)``, the longest first."""
        config, module = self.config, self.module
        packed = pack_padded_sequence(tokens, lengths, batch_first=True)
        x = PackedSequence(module.emb(packed.data), packed.batch_sizes)
        output, final = module.rnn(x)
        seen = []
        if config.poolings != ["last"]:
            hidden, _ = pad_packed_sequence(output)
            past = (torch.arange(len(hidden))[:, None] >= lengths)[:, :, None]
        for pooling in config.poolings:
            if pooling == "last":
                seen.append(torch.cat(tuple(final[-config.directions :]), dim=1))
            elif pooling == "mean":  # what is past the end is padded with zeros
                seen.append(hidden.sum(dim=0) / lengths[:, None])
            else:
                seen.append(hidden.masked_fill(past, -torch.inf).max(dim=0).values)
        if config.ngram_orders:
            seen.append(self._ngrams(tokens, lengths))
        z = torch.cat(seen, dim=1) if len(seen) > 1 else seen[0]
        return module.fc2(torch.relu(module.fc1(z)) if config.hidden_layer else z)

    def _ngrams(self, tokens: Any, lengths: Any) -> Any:
        bag, orders = self.module.ngrams, self.config.ngram_orders
        key = own = tokens + 1
        steps = torch.arange(tokens.shape[1])
        rows, known = [], []
        for n in range(1, max(orders) + 1):
            if n > 1:
                before = functional.pad(key, (1, 0))[:, :-1]
                key = before * (self.config.num_embeddings + 1) + own
            if n in orders:
                place = torch.searchsorted(bag.keys, key).clamp(max=len(bag.keys) - 1)
                inside = (steps >= n - 1) & (steps < lengths[:, None])
                rows.append(place)
                known.append((bag.keys[place] == key) & inside)
        is_known = torch.cat(known, dim=1).to(bag.weight.dtype)
        sums = functional.embedding_bag(
            torch.cat(rows, dim=1), bag.weight, per_sample_weights=is_known, mode="sum"
        )
        return sums / is_known.sum(dim=1).clamp(min=1).sqrt()[:, None]
