"""A causal transformer over a whole history, in torch: one more tower of the built-in teacher.

SASRec (Kang and McAuley, ICDM 2018) with layers that are normalised first. An item has one vector: in the history, and
as a candidate. Each event sees itself and all events before it. Attention has a learnt bias by distance (T5: Raffel et
al., 2020) instead of a vector for each place, and, where times are known, one by the time between two events (HSTU:
Zhai et al., ICML 2024). So one pass over a history gives the state before every event and at its end, and all of them
learn at once.

A question (a place in a history, a time, a context) starts from the state at its place. A small network adds what the
context and the time since the newest event say. The score of an item is the inner product with the item's vector, plus
the item's bias.

It knows nothing of records, losses or slots: rows and places come in, vectors go out.

Example:
    >>> import numpy as np
    >>> from recdistill.features import FeatureSpec
    >>> tower = CausalTower(FeatureSpec(), CausalShape(dim=8, layers=1, heads=2), {"id": 5}, seed=0)
    >>> tower.items(np.array([1, 2]), {}).shape, sorted(tower.tables)
    (torch.Size([2, 10]), ['id'])
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchrec import EmbeddingBagCollection, EmbeddingBagConfig, PoolingType

from recdistill.features import AGE_BUCKETS, FeatureSpec
from recdistill.model import layout
from recdistill.teachers.builtin.files import CausalShape
from recdistill.teachers.builtin.items import BAGS, ItemSide, key_of
from recdistill.teachers.builtin.sequences import Windows
from recdistill.teachers.builtin.tower import Drop, age_rows, mean_of

_FIRST = 0.02
"""Standard deviation of the first values of tables and layers."""


class _Block(nn.Module):
    """One layer: attention, then a network of two layers. Each is normalised first, and added to what came in."""

    def __init__(self, shape: CausalShape) -> None:
        super().__init__()
        dim = shape.dim
        self.heads = shape.heads
        self.norm = nn.LayerNorm(dim)
        self.inside = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.norm_mlp = nn.LayerNorm(dim)
        self.up = nn.Linear(dim, shape.widening * dim)
        self.down = nn.Linear(shape.widening * dim, dim)

    def forward(self, x_BLD: Tensor, bias_BhLL: Tensor, drop: Drop) -> Tensor:
        batch, length, dim = x_BLD.shape
        inside = self.inside(self.norm(x_BLD)).view(batch, length, 3, self.heads, dim // self.heads)
        query, key, value = inside.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias_BhLL)
        x_BLD = x_BLD + drop(self.out(mixed.transpose(1, 2).reshape(batch, length, dim)))
        return x_BLD + drop(self.down(F.gelu(self.up(self.norm_mlp(x_BLD)))))


class CausalTower(ItemSide):
    """Both sides of the transformer.

    Args:
        spec: The feature specification.
        shape: Size.
        rows: Rows in use of "id", and of each "item.<field>" and "context.<field>" that is a category. Text fields use
            the specification's.
        seed: Seed of all first values.
    """

    def __init__(self, spec: FeatureSpec, shape: CausalShape, rows: Mapping[str, int], *, seed: int) -> None:
        super().__init__()
        self.spec, self.shape = spec, shape
        self.dim = shape.dim
        self._bag_keys = [f"item.{name}" for name, field in spec.item.items() if field.kind in BAGS]
        heights = {key: rows[key] if key in rows else spec.rows(key) for key in ["id", *self._bag_keys]}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._collection = EmbeddingBagCollection(
                tables=[
                    EmbeddingBagConfig(
                        name=key.replace(".", "/"),  # torch allows no dots here, and no field has a slash in its name
                        embedding_dim=layout.width(self.dim),
                        num_embeddings=height,
                        feature_names=[key],
                        pooling=PoolingType.MEAN,
                    )
                    for key, height in heights.items()
                ]
            )
            self._make_dense(rows)
            with torch.no_grad():
                for key, table in self.tables.items():
                    # Row 0 is for unknown values, and nothing trains the hashed rows. They stay zero: they add nothing.
                    field = None if key == "id" else spec.field(key)
                    first = 1 + (field.hashed if field is not None and field.kind == "category" else 0)
                    table.zero_()
                    table[first:, layout.VECTOR].normal_(0.0, _FIRST)

    def _make_dense(self, rows: Mapping[str, int]) -> None:
        spec, shape, dim = self.spec, self.shape, self.dim
        actions, wide = 1 + len(spec.history.actions), shape.context_dim
        self.item_dense = nn.ParameterDict(
            {
                key_of(n): torch.randn(f.width, layout.width(dim)) * 0.01
                for n, f in spec.item.items()
                if f.kind not in BAGS
            }
        )
        self.context = nn.ParameterDict(
            {
                key_of(n): torch.randn(rows.get(f"context.{n}", spec.rows(f"context.{n}")), wide) * 0.05
                for n in spec.context
            }
        )
        self.origin = nn.Parameter(torch.randn(1 + actions, wide) * 0.05)
        self.gap = nn.Parameter(torch.randn(AGE_BUCKETS, wide) * 0.05)
        self.start = nn.Parameter(torch.randn(dim) * _FIRST)
        self.action = nn.Parameter(torch.randn(actions, dim) * _FIRST)
        self.before = nn.Parameter(torch.randn(AGE_BUCKETS, dim) * _FIRST)
        self.distance = nn.Parameter(torch.zeros(shape.heads, spec.history.length + 1))
        self.between = nn.Parameter(torch.zeros(AGE_BUCKETS, shape.heads))
        self.blocks = nn.ModuleList(_Block(shape) for _ in range(shape.layers))
        self.norm = nn.LayerNorm(dim)
        self.asked_in = nn.Linear(dim + wide * (2 + len(spec.context)), 2 * dim)
        self.asked_out = nn.Linear(2 * dim, dim)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, 0.0, _FIRST)
                nn.init.zeros_(module.bias)
        nn.init.zeros_(self.asked_out.weight)

    def users(self, items_NW: Tensor, asked: Windows, slots_BL: Tensor, drop: Drop | None = None) -> Tensor:
        """The user side, `[M, D]`: one row for each real question, window by window.

        Args:
            items_NW: What `items` gave.
            asked: The windows. Their slots are not used.
            slots_BL: The events as rows of `items_NW`, -1 where there is none.
            drop: Dropout of a training step.
        """
        drop = Drop(0.0, None) if drop is None else drop
        at_BQ = torch.from_numpy(asked.at_BQ)
        row_M, column_M = (at_BQ >= 0).nonzero(as_tuple=True)
        at_M = at_BQ[row_M, column_M]
        times_BL = torch.from_numpy(asked.times_us_BL)
        states_BLD = self.states(items_NW, times_BL, torch.from_numpy(asked.actions_BL), slots_BL, drop)
        states_MD = states_BLD.flatten(0, 1).index_select(0, row_M * states_BLD.shape[1] + at_M)
        newest_M = times_BL[row_M, (at_M - 1).clamp_min(0)].masked_fill(at_M == 0, 0)
        gap_M = age_rows(torch.from_numpy(asked.asked_us_BQ)[row_M, column_M], newest_M)
        parts = [states_MD, F.embedding(torch.from_numpy(asked.origin_BQ)[row_M, column_M], self.origin)]
        parts.append(F.embedding(gap_M, self.gap))
        flat_M = row_M * at_BQ.shape[1] + column_M
        for name, field in self.spec.context.items():
            values = torch.from_numpy(asked.context[name])[flat_M]
            parts.append(mean_of(self.context[key_of(name)], field, values))
        told_MD: Tensor = self.asked_out(drop(F.gelu(self.asked_in(torch.cat(parts, 1)))))
        return states_MD + told_MD

    def states(self, items_NW: Tensor, times_BL: Tensor, actions_BL: Tensor, slots_BL: Tensor, drop: Drop) -> Tensor:
        """`[B, L + 1, D]`: the state before the first event, and after each one."""
        batch, length = slots_BL.shape
        vectors_BLD = F.embedding(slots_BL.clamp_min(0), items_NW)[..., layout.VECTOR]
        x_BLD = vectors_BLD * self.dim**0.5 + F.embedding(actions_BL, self.action)
        timed = bool((times_BL > 0).any())
        if timed:
            previous_BL = torch.cat([torch.zeros_like(times_BL[:, :1]), times_BL[:, :-1]], 1)
            x_BLD = x_BLD + F.embedding(age_rows(times_BL, previous_BL), self.before)
        x_BLD = drop(torch.cat([self.start.expand(batch, 1, self.dim), x_BLD], 1))
        # The bias is the same in all layers. Events left of the window's end see no padding: it comes after them.
        place = torch.arange(length + 1)
        far_LL = place[:, None] - place
        bias = self.distance[:, far_LL.clamp(0, self.distance.shape[1] - 1)]
        bias = bias.masked_fill(far_LL < 0, -torch.inf)[None]
        if timed:
            between = F.pad(age_rows(times_BL[:, :, None], times_BL[:, None]), (1, 0, 1, 0))
            bias = bias + F.embedding(between, self.between).permute(0, 3, 1, 2)
        for block in self.blocks:
            x_BLD = block(x_BLD, bias, drop)
        states: Tensor = self.norm(x_BLD)
        return states
