"""A plain SASRec in torch. It uses nothing of recdistill. It is the baseline of `benchmarks/bench_builtin.py`.

Kang and McAuley, "Self-attentive sequential recommendation" (ICDM 2018): vectors of items and places, causal
self-attention, and scores from the same item vectors. It learns a softmax over all items instead of one negative item,
as is usual today (Klenitskiy and Vasilev, "Turning dross into gold loss", RecSys 2023). It keeps the epoch that is best
on the validation part.

Example:
    >>> lines = [[n, n + 1, n + 2, n + 3] for n in range(4)] * 8
    >>> later = iter(range(40))  # the last epoch is the best
    >>> model = fit(lines, 7, lambda model: next(later), epochs=40, dim=16, dropout=0.0)
    >>> int(model.scores([[0, 1, 2]])[0].argmax())
    3
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PlainSasrec(nn.Module):
    """Transformer layers with normalisation after each part, over at most `length` events.

    The item vectors are used for the input and for the scores.
    """

    def __init__(self, items: int, *, dim: int, layers: int, heads: int, dropout: float, length: int) -> None:
        super().__init__()
        self.length = length
        self.rows = nn.Embedding(items + 1, dim, padding_idx=items)
        self.places = nn.Embedding(length, dim)
        for table in (self.rows, self.places):
            nn.init.normal_(table.weight, 0.0, 0.02)
        self.norm, self.drop = nn.LayerNorm(dim), nn.Dropout(dropout)
        layer = nn.TransformerEncoderLayer(dim, heads, 4 * dim, dropout, "gelu", batch_first=True)
        self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)

    def forward(self, items_BL: Tensor) -> Tensor:
        """The state after each event, `[B, L, D]`. Events are on the left, so no event sees the padding."""
        length = items_BL.shape[1]
        x_BLD = self.drop(self.norm(self.rows(items_BL) + self.places.weight[:length]))
        mask_LL = torch.ones(length, length, dtype=torch.bool).triu(1)
        states_BLD: Tensor = self.layers(x_BLD, mask=mask_LL)
        return states_BLD

    @torch.no_grad()
    def scores(self, histories: Sequence[Sequence[int]]) -> np.ndarray:
        """Scores of all items, f32 `[B, N]`. No history may be empty."""
        self.eval()
        found = []
        for start in range(0, len(histories), 256):
            block = [list(history)[-self.length :] for history in histories[start : start + 256]]
            last_B = torch.tensor([len(history) - 1 for history in block])
            states_BLD = self(_padded(block, self.rows.num_embeddings - 1))
            found.append(states_BLD[torch.arange(len(block)), last_B] @ self.rows.weight[:-1].T)
        return torch.cat(found).numpy()


def fit(
    lines: Sequence[Sequence[int]],
    items: int,
    valid: Callable[[PlainSasrec], float],
    *,
    seed: int = 0,
    dim: int = 64,
    layers: int = 2,
    heads: int = 2,
    dropout: float = 0.5,
    length: int = 50,
    batch: int = 32,
    learning_rate: float = 1e-3,
    epochs: int = 100,
    patience: int = 8,
) -> PlainSasrec:
    """Learns to predict each event of each line from the events before it.

    Args:
        lines: Each user's items, oldest first.
        items: How many items there are.
        valid: The validation figure of a model. Higher is better. The model of the best epoch is returned.
        seed: Seed of first values, dropout and windows.
        dim: Width.
        layers: Attention layers.
        heads: Attention heads.
        dropout: Dropout of all layers.
        length: Most events that are used.
        batch: Windows in a step. Windows start half a length apart. In each epoch they are shifted at random.
        learning_rate: Learning rate of Adam.
        epochs: Most epochs.
        patience: Training ends after this number of epochs without a better figure.
    """
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    model = PlainSasrec(items, dim=dim, layers=layers, heads=heads, dropout=dropout, length=length)
    adam = torch.optim.Adam(model.parameters(), lr=learning_rate)
    best, kept, since = -math.inf, model.state_dict(), 0
    for _ in range(epochs):
        model.train()
        cut = [window for line in lines for window in _windows(line, length + 1, random)]
        order = random.permutation(len(cut))
        for start in range(0, len(order), batch):
            block_BL = _padded([cut[n] for n in order[start : start + batch]], items)
            target_M = block_BL[:, 1:].flatten()
            states_MD = model(block_BL[:, :-1]).flatten(0, 1)[target_M < items]
            loss = F.cross_entropy(states_MD @ model.rows.weight[:-1].T, target_M[target_M < items])
            adam.zero_grad()
            loss.backward()
            adam.step()
        figure = valid(model)
        if figure > best:
            best, since = figure, 0
            kept = {name: value.clone() for name, value in model.state_dict().items()}
        else:
            since += 1
            if since >= patience:
                break
    model.load_state_dict(kept)
    return model


def _windows(line: Sequence[int], length: int, random: np.random.Generator) -> list[list[int]]:
    stride = length // 2
    end = len(line) + (int(random.integers(stride)) if len(line) > length else 0)
    found = []
    while True:
        part = list(line[max(0, end - length) : end])
        if len(part) > 1:
            found.append(part)
        if end <= length:
            return found
        end -= stride


def _padded(lines: Sequence[Sequence[int]], filler: int) -> Tensor:
    padded_BL = np.full((len(lines), max(map(len, lines))), filler, np.int64)
    for row, line in enumerate(lines):
        padded_BL[row, : len(line)] = line
    return torch.from_numpy(padded_BL)
