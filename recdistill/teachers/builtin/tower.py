"""The built-in teacher in torch: towers that read a history and give each item of a catalogue a score.

A tower's item side uses torchrec. A `FusedEmbeddingBagCollection` reads the item's own row and the bags of its
attributes' rows, through a `KeyedJaggedTensor`. In the backward pass it updates only the rows that it read. A row holds
what `model.layout` names; the weight in a history is raw. An item has the same vector in a history and as a candidate.

Its user side answers a *question* (a place in a history, a time, a context):

1. it pools the history twice, as a student does: a weighted sum divided by √n, and a softmax over recency,
  age and action;
2. unless `layers` is 0, a transformer reads the events before the question: first causal attention among events, then
  attention of the question over them. Both have a bias by distance and age, so a session differs from last month;
3. both, with the context, go through a cross (`x0 · Wx0 + x0`, after DCN v2: Wang et al., WWW 2021) and a hidden layer.

The score of an item is the inner product of the two sides plus the item's bias. Several towers learn alone, and their
scores are averaged. For each question this averages their log-probabilities, up to a constant.

It knows nothing of records, losses or slots: rows and places come in, vectors go out.

Example:
    >>> import numpy as np
    >>> from recdistill.features import FeatureSpec
    >>> tower = Tower(FeatureSpec(), Shape(dim=8, layers=0), {"id": 5}, seed=0)
    >>> [len(tower.items(np.array([1, 2]), {})), sorted(tower.tables)]
    [2, ['id']]
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchrec import EmbeddingBagConfig, PoolingType
from torchrec.modules.fused_embedding_modules import FusedEmbeddingBagCollection

from recdistill.features import AGE_BUCKETS, FeatureSpec, Field, Vocabulary
from recdistill.model import layout
from recdistill.teachers.builtin.files import Shape
from recdistill.teachers.builtin.items import BAGS, ItemSide, key_of
from recdistill.teachers.builtin.sequences import Windows

_FAR = -1e9  # an attention logit far below all real ones


class _Block(nn.Module):
    """One pre-normalised attention layer, for events over events or for questions over events."""

    def __init__(self, shape: Shape, reach: int) -> None:
        super().__init__()
        dim = shape.dim
        self.heads = shape.heads
        self.norm = nn.LayerNorm(dim)
        self.query = nn.Linear(dim, dim)
        self.keys = nn.Linear(dim, 2 * dim)
        self.out = nn.Linear(dim, dim)
        self.norm_mlp = nn.LayerNorm(dim)
        self.up = nn.Linear(dim, shape.widening * dim)
        self.down = nn.Linear(shape.widening * dim, dim)
        self.distance = nn.Parameter(torch.zeros(reach + 1, shape.heads))
        self.age = nn.Parameter(torch.zeros(AGE_BUCKETS, shape.heads))

    def forward(self, x_BQD: Tensor, over_BKD: Tensor, bias_BhQK: Tensor, drop: Drop) -> Tensor:
        # Split into heads, take attention with the bias, join the heads; then a two-layer network. Both are added to x.
        batch, count, dim = x_BQD.shape
        split = (batch, -1, self.heads, dim // self.heads)
        query = self.query(self.norm(x_BQD)).view(split).transpose(1, 2)
        key, value = self.keys(self.norm(over_BKD)).split(dim, -1)
        key, value = key.view(split).permute(0, 2, 3, 1), value.view(split).transpose(1, 2)
        logits = torch.matmul(query * (dim // self.heads) ** -0.5, key) + bias_BhQK
        mixed = torch.matmul(logits.softmax(-1), value).transpose(1, 2).reshape(batch, count, dim)
        x_BQD = x_BQD + drop(self.out(mixed))
        return x_BQD + drop(self.down(F.gelu(self.up(self.norm_mlp(x_BQD)))))

    def bias(self, distance: Tensor, ages: Tensor, allowed: Tensor) -> Tensor:
        """`[B, heads, Q, K]` from distances and age buckets; far below zero where a key is not allowed."""
        # One table of all pairs (age, distance), so that one lookup gives the sum.
        table = (self.age[:, None] + self.distance[None]).flatten(0, 1)
        places = ages * len(self.distance) + distance.int()
        bias = table.index_select(0, places.flatten()).view(*places.shape, -1).permute(0, 3, 1, 2)
        return bias.masked_fill(~allowed[:, None], _FAR)


class Drop:
    """Dropout with its own generator, so that towers can learn in parallel and a run can still be repeated exactly."""

    def __init__(self, rate: float, generator: torch.Generator | None) -> None:
        self.rate, self.generator = rate, generator

    def __call__(self, x: Tensor, rate: float | None = None) -> Tensor:
        """Drops numbers of `x` at the rate, and makes the others larger by as much."""
        rate = self.rate if rate is None else rate
        if self.generator is None or rate <= 0:
            return x
        kept = torch.rand(x.shape, generator=self.generator) >= rate
        return x * kept * (1.0 / (1.0 - rate))


class Tower(ItemSide):
    """Both sides of one tower.

    Args:
        spec: The feature specification.
        shape: Size.
        rows: Rows in use of "id", and of each "item.<field>" and "context.<field>" that is a category. Text fields use
            the specification's.
        seed: Seed of all initial values.
        table_learning_rate: Learning rate of the item rows, which Adagrad updates in the backward pass.
    """

    def __init__(
        self, spec: FeatureSpec, shape: Shape, rows: Mapping[str, int], *, seed: int, table_learning_rate: float = 0.1
    ) -> None:
        super().__init__()
        self.spec, self.shape = spec, shape
        self.dim = dim = shape.dim
        random = torch.Generator().manual_seed(seed)
        self._bag_keys = [f"item.{name}" for name, field in spec.item.items() if field.kind in BAGS]
        heights = {key: rows[key] if key in rows else spec.rows(key) for key in ["id", *self._bag_keys]}
        self._collection = FusedEmbeddingBagCollection(
            tables=[
                EmbeddingBagConfig(
                    name=key.replace(".", "/"),  # torch allows no dots here, and no field has a slash in its name
                    embedding_dim=-(-layout.width(dim) // 4) * 4,  # fbgemm reads rows in steps of four floats
                    num_embeddings=height,
                    feature_names=[key],
                    pooling=PoolingType.MEAN,
                )
                for key, height in heights.items()
            ],
            optimizer_type=torch.optim.Adagrad,
            optimizer_kwargs={"lr": table_learning_rate, "eps": 1e-8},
        )
        for key, table in self.tables.items():
            # Row 0 is for unknown values, and nothing trains the hashed rows. They stay zero, so they add nothing.
            first = 1 if key == "id" else 1 + self._hashed(key)
            table.zero_()
            table[first:, :dim].normal_(0.0, 0.05 if key == "id" else 0.015, generator=random)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._make_dense(rows)

    def _hashed(self, key: str) -> int:
        field = self.spec.field(key)
        return field.hashed if field.kind == "category" else 0

    def _make_dense(self, rows: Mapping[str, int]) -> None:
        spec, shape, dim = self.spec, self.shape, self.dim
        length, actions, wide = spec.history.length, 1 + len(spec.history.actions), layout.width(dim)
        self.item_dense = nn.ParameterDict(
            {key_of(n): torch.randn(f.width, wide) * 0.01 for n, f in spec.item.items() if f.kind not in BAGS}
        )
        self.context = nn.ParameterDict(
            {
                key_of(n): torch.randn(rows.get(f"context.{n}", spec.rows(f"context.{n}")), shape.context_dim) * 0.05
                for n, f in spec.context.items()
            }
        )
        wide = shape.context_dim
        self.origin = nn.Parameter(torch.randn(1 + actions, wide) * 0.05)
        self.gap = nn.Parameter(torch.randn(AGE_BUCKETS, wide) * 0.05)
        features = (2 + bool(shape.layers)) * dim + wide * (2 + len(spec.context))
        self.pool_action = nn.Parameter(torch.ones(actions))
        self.pool_action_logit = nn.Parameter(torch.zeros(actions))
        self.pool_age = nn.Parameter(torch.zeros(AGE_BUCKETS))
        self.pool_distance = nn.Parameter(torch.linspace(1.0, -1.0, length + 1))
        self.skip = nn.Parameter(torch.full((2,), 0.5))
        if shape.layers:
            self.start = nn.Parameter(torch.randn(dim) * 0.05)
            self.action = nn.Parameter(torch.randn(actions, dim) * 0.05)
            self.before = nn.Parameter(torch.randn(AGE_BUCKETS, dim) * 0.05)
            self.asked = nn.Linear(wide * (2 + len(spec.context)), dim)
            self.blocks = nn.ModuleList(_Block(shape, length + 1) for _ in range(shape.layers))
            self.norm = nn.LayerNorm(dim)
        self.cross = nn.Linear(features, features)
        self.straight = nn.Linear(features, dim)
        self.hidden_in = nn.Linear(features, shape.hidden)
        self.hidden_out = nn.Linear(shape.hidden, dim)
        nn.init.normal_(self.cross.weight, 0.0, 0.01)
        nn.init.normal_(self.straight.weight, 0.0, 0.02)

    def set_table_learning_rate(self, rate: float) -> None:
        """Sets the rate of the tables' updates, from the next backward pass on."""
        optimizer = self._collection.fused_optimizer()
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()  # this only gives the rate to the fused kernels

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
        there_BQ = at_BQ >= 0
        real_BL = slots_BL >= 0
        length = slots_BL.shape[1]
        rows_BLW = F.embedding(slots_BL.clamp_min(0), items_NW)
        vectors_BLD, _, raw_BL1 = rows_BLW.split(layout.parts(self.dim), -1)
        actions_BL = torch.from_numpy(asked.actions_BL)
        times_BL, asked_BQ = torch.from_numpy(asked.times_us_BL), torch.from_numpy(asked.asked_us_BQ)
        ages_BQL = age_rows(asked_BQ[:, :, None], times_BL[:, None])
        # Which events come before each question: only these may be used. `gap`: time since the newest of them.
        before_BQL = (torch.arange(length) < at_BQ[:, :, None]) & real_BL[:, None]
        last_BQ = (at_BQ - 1).clamp_min(0)
        gap_BQ = ages_BQL.gather(2, last_BQ[:, :, None])[:, :, 0].masked_fill(at_BQ <= 0, 0)
        context = self._context(asked, gap_BQ)
        pools = self._pools(vectors_BLD, raw_BL1[..., 0], actions_BL, ages_BQL, before_BQL, at_BQ)
        pools_M2D = pools[there_BQ]
        parts = [drop(pools_M2D.flatten(1))]
        if self.shape.layers:
            read = self._read(vectors_BLD, actions_BL, times_BL, ages_BQL, before_BQL, at_BQ, context, drop)
            parts.append(drop(self.norm(read)[there_BQ], 0.5 * drop.rate))
        parts.append(drop(context.view(*at_BQ.shape, -1)[there_BQ]))
        # The cross multiplies features with each other. A straight and a hidden path give the vector; pools are added.
        x0 = torch.cat(parts, 1)
        x1 = x0 * self.cross(x0) + x0
        users_MD: Tensor = self.straight(x1) + self.hidden_out(torch.relu(self.hidden_in(x0)))
        return users_MD + (pools_M2D * self.skip[:, None]).sum(1)

    def _pools(
        self,
        vectors_BLD: Tensor,
        raw_BL: Tensor,
        actions_BL: Tensor,
        ages_BQL: Tensor,
        before_BQL: Tensor,
        at_BQ: Tensor,
    ) -> Tensor:
        """`[B, Q, 2, D]`: the weighted sum divided by √n, and the average by a softmax over recency, age and action."""
        weights_BL = F.softplus(raw_BL + layout.UNIT_WEIGHT)
        sums_BQL = before_BQL * _pick(self.pool_action, actions_BL)[:, None]
        sums_BQL = sums_BQL / at_BQ.clamp_min(1).sqrt()[:, :, None]
        distance_BQL = (at_BQ[:, :, None] - 1 - torch.arange(ages_BQL.shape[2])).clamp(0, len(self.pool_distance) - 1)
        table = (self.pool_age[:, None] + self.pool_distance[None]).flatten()
        logits_BQL = _pick(table, ages_BQL * len(self.pool_distance) + distance_BQL.int())
        logits_BQL = logits_BQL + _pick(self.pool_action_logit, actions_BL)[:, None]
        shares_BQL = logits_BQL.masked_fill(~before_BQL, _FAR).softmax(-1) * before_BQL
        batch, asked, _ = ages_BQL.shape
        both = torch.cat([sums_BQL, shares_BQL], 1) @ (vectors_BLD * weights_BL[..., None])
        return both.view(batch, 2, asked, -1).transpose(1, 2)

    def _read(
        self,
        vectors_BLD: Tensor,
        actions_BL: Tensor,
        times_BL: Tensor,
        ages_BQL: Tensor,
        before_BQL: Tensor,
        at_BQ: Tensor,
        context_BQC: Tensor,
        drop: Drop,
    ) -> Tensor:
        """The transformer, `[B, Q, D]`. A learnt start is put before the events, so no history is empty."""
        batch, length, dim = vectors_BLD.shape
        previous_BL = torch.cat([torch.zeros_like(times_BL[:, :1]), times_BL[:, :-1]], 1)
        x_BLD = vectors_BLD * dim**0.5 + F.embedding(actions_BL, self.action)
        x_BLD = x_BLD + F.embedding(age_rows(times_BL, previous_BL), self.before)
        x_BLD = torch.cat([self.start.expand(batch, 1, dim), drop(x_BLD)], 1)
        if len(self.blocks) > 1:
            place = torch.arange(length + 1)
            distance = (place[:, None] - place).clamp_min(0).expand(batch, -1, -1)
            ages = F.pad(age_rows(times_BL[:, :, None], times_BL[:, None]), (1, 0, 1, 0))
            allowed = (place[:, None] >= place).expand(batch, -1, -1)
            for block in self._blocks()[:-1]:
                x_BLD = block(x_BLD, x_BLD, block.bias(distance, ages, allowed), drop)
        # The question is the newest event before it plus its context. The last layer lets it attend to earlier events.
        last = self._blocks()[-1]
        newest_BQD = x_BLD.gather(1, at_BQ.clamp_min(0)[:, :, None].expand(-1, -1, dim))
        question_BQD = newest_BQD + self.asked(context_BQC)
        distance = (at_BQ[:, :, None] - torch.arange(length + 1)).clamp(0, len(last.distance) - 1)
        bias = last.bias(distance, F.pad(ages_BQL, (1, 0)), F.pad(before_BQL, (1, 0), value=True))
        read: Tensor = last(question_BQD, x_BLD, bias, drop)
        return read

    def _blocks(self) -> list[_Block]:
        return [block for block in self.blocks if isinstance(block, _Block)]

    def _context(self, asked: Windows, gap_BQ: Tensor) -> Tensor:
        """`[B, Q, C]`: embeddings of the origin, of the time since the newest event, and of each field."""
        parts = [F.embedding(torch.from_numpy(asked.origin_BQ), self.origin), F.embedding(gap_BQ, self.gap)]
        for name, field in self.spec.context.items():
            values = torch.from_numpy(asked.context[name])
            parts.append(mean_of(self.context[key_of(name)], field, values).view(*gap_BQ.shape, -1))
        return torch.cat(parts, -1)


def dropout(rate: float, generator: torch.Generator) -> Drop:
    """Dropout of a training step."""
    return Drop(rate, generator)


def mean_of(table: Tensor, field: Field, values: Tensor) -> Tensor:
    """Mean of the rows that are not −1; for numbers and vectors, the values times the table."""
    if field.kind not in BAGS:
        return values @ table
    real = values >= 0
    total = (F.embedding(values.clamp_min(0), table) * real[..., None]).sum(1)
    return total / real.sum(1, keepdim=True).clamp_min(1)


def age_rows(now: Tensor, then: Tensor) -> Tensor:
    """Age buckets as in `recdistill.features.age_buckets`. For two known times that are equal or reversed it is 1."""
    gap = (now - then).clamp_min(0).to(torch.float32) * 1e-6 + 1.0
    # The exponent bits of a float32 hold floor(log2) + 127. Reading them takes a tenth of the time of a logarithm.
    buckets = ((gap.view(torch.int32) >> 23) - 126).clamp_max(AGE_BUCKETS - 1)
    return buckets.masked_fill((now <= 0) | (then <= 0), 0)


def _pick(vector: Tensor, places: Tensor) -> Tensor:
    """vector[places], in the way whose gradient is fastest on a CPU."""
    return vector.index_select(0, places.flatten()).view(places.shape)


def table_rows(spec: FeatureSpec, vocabulary: Vocabulary) -> dict[str, int]:
    """Rows in use of each table: those admitted in training. Ids have no hashed rows here."""
    rows = {"id": vocabulary.size("id") - spec.id.hashed}
    for key in spec.vocabulary_keys()[1:]:
        rows[key] = vocabulary.size(key)
    return rows
