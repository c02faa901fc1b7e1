"""The student in torch: an item tower, a user tower, and their inner product plus the item's bias.

Item tower: the sum of the item's own row (table `id`) and, for each attribute, the mean of its values' rows
(`item.<field>`). This row holds what `model.layout` names: a vector, a bias, and the raw weight of the item
in a history.

User tower: the vectors of the history are pooled twice. One pool is a weighted sum, divided by √n. The other is an
average by a softmax over position, age and action. Both pools and the embeddings of the context go through one hidden
layer. Both pools are added again at the end.

The tables of categories and hashed texts are torchrec's: a `FusedEmbeddingBagCollection` reads bags of rows through a
`KeyedJaggedTensor` and updates, in the backward pass, only the rows it read. Everything else is a dense parameter.

The arithmetic is that of `model.forward`; a test compares both towers with it. `Student.weights` gives the arrays from
which the ONNX graphs are written, with their names.

It knows nothing of losses, records or time: rows come in, scores go out.

Example:
    >>> from recdistill.features import FeatureSpec
    >>> student = Student(FeatureSpec(), Shape(dim=4, hidden=8, context_dim=2, init=0.05), seed=0)
    >>> [student.tables["id"].shape[1], student.weights({"id": 3})["id"].shape]  # rows are padded to a multiple of four
    [8, (3, 6)]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchrec import EmbeddingBagConfig, JaggedTensor, KeyedJaggedTensor, PoolingType
from torchrec.modules.fused_embedding_modules import FusedEmbeddingBagCollection

from recdistill.features import AGE_BUCKETS, EncodedItems, FeatureSpec, Field, Requests
from recdistill.model import layout
from recdistill.train.copying import Rows, Take, at_once, rows_of
from recdistill.train.shape import Shape

BAGS = ("category", "text")  # kinds of field that read rows of a sparse table; the others multiply a dense table


Draws = Callable[[int], np.ndarray]  # a count -> that many uniform numbers in [0, 1)


class Items(NamedTuple):
    """What the item tower gives for U items."""

    output_UW: Tensor  # vector D, bias 1, raw weight in a history 1
    vectors_UD: Tensor
    biases_U: Tensor


class Student:
    """Both towers and their parameters, by the names of the contract: `tables` are sparse, `dense` the others.

    Args:
        spec: The feature specification; it names and sizes the tables.
        shape: The widths, and the spread of the first values.
        seed: For every initial value. Each comes from a hash of (seed, table, row or id). So a row that is admitted
            later starts from the same bytes, in any order.
        rows_rate: Learning rate of the rows.
        dropout: Share of the user tower's inputs that a training step leaves out.
    """

    def __init__(
        self, spec: FeatureSpec, shape: Shape, *, seed: int, rows_rate: float = 0.0, dropout: float = 0.0
    ) -> None:
        self.spec, self.shape, self.seed = spec, shape, seed
        self.rows_rate, self.dropout = rows_rate, dropout
        self.dim, self.width = shape.dim, layout.width(shape.dim)
        item_bags = {"id": spec.rows("id")} | _bags(spec, "item", spec.item)
        context_bags = _bags(spec, "context", spec.context)
        self._item_keys, self._context_keys = list(item_bags), list(context_bags)
        self._item_bags = self._collection(item_bags, self.width)
        self._context_bags = self._collection(context_bags, shape.context_dim) if context_bags else None
        self.dense: dict[str, nn.Parameter] = {}
        for side, fields, width in (("item", spec.item, self.width), ("context", spec.context, shape.context_dim)):
            for name, field in fields.items():
                if field.kind not in BAGS:
                    rows = field.size if field.kind == "vector" else 2
                    key = f"{side}.{name}"
                    self.dense[key] = nn.Parameter(self.fresh(key, [f"row {r}" for r in range(rows)], width))
        self._user_tower()

    def _collection(self, bags: Mapping[str, int], width: int) -> FusedEmbeddingBagCollection:
        """One collection of tables; all its rows are zero until `set_rows` gives them their first value."""
        adagrad = torch.optim.Adagrad
        collection = FusedEmbeddingBagCollection(
            tables=[
                EmbeddingBagConfig(
                    name=key.replace(".", "/"),  # torch allows no dots here, and no field has a slash in its name
                    embedding_dim=-(-width // 4) * 4,  # fbgemm reads rows in steps of four floats
                    num_embeddings=rows,
                    feature_names=[key],
                    pooling=PoolingType.MEAN,
                )
                for key, rows in bags.items()
            ],
            optimizer_type=adagrad,
            optimizer_kwargs={"lr": self.rows_rate, "eps": 1e-8},
        )
        for weight in _named_tables(collection).values():
            weight.zero_()
        return collection

    def _user_tower(self) -> None:
        """Creates the dense parameters of the user tower under their contract names."""
        dim, hidden, actions = self.dim, self.shape.hidden, 1 + len(self.spec.history.actions)
        wide = 2 * dim + self.shape.context_dim * len(self.spec.context)
        zeros = {
            "user.age": (AGE_BUCKETS,),
            "user.action_logit": (actions,),
            "user.b1": (hidden,),
            "user.b2": (dim,),
        }
        for name, shape in zeros.items():
            self.dense[name] = nn.Parameter(torch.zeros(shape))
        # The newest event starts with e² times the weight of the oldest.
        self.dense["user.position"] = nn.Parameter(torch.linspace(1, -1, self.spec.history.length))
        self.dense["user.action"] = nn.Parameter(torch.ones(actions))
        self.dense["user.skip"] = nn.Parameter(torch.full((2,), 0.5))
        for name, rows, columns in (("user.w1", wide, hidden), ("user.w2", hidden, dim)):
            fresh = self.fresh(name, [f"row {r}" for r in range(rows)], columns, std=(1.0 / rows) ** 0.5)
            self.dense[name] = nn.Parameter(fresh)

    def fresh(self, table: str, keys: list[str], width: int, *, std: float | None = None) -> Tensor:
        """First values of rows, `[len(keys), width]`: uniform with deviation `std`, from hash(seed, table, key) alone.

        Bias and history weight of an item start at 0. Only integer arithmetic and one scaling are used, so every
        machine gives the same bytes.
        """
        std = self.shape.init if std is None else std
        head = blake2b(f"{self.seed}\0{table}\0".encode(), digest_size=8)
        states = np.empty(len(keys), np.uint64)
        for i, key in enumerate(keys):
            row = head.copy()
            row.update(key.encode())
            states[i] = int.from_bytes(row.digest(), "little")
        # Uniform in [-a, a) has standard deviation a / √3.
        values = (2.0 * uniform(states[:, None], np.arange(width, dtype=np.uint64)) - 1.0) * (std * 3.0**0.5)
        if table == "id" or table.startswith("item."):
            values[:, layout.BESIDE] = 0.0
        return torch.from_numpy(values.astype(np.float32))

    def set_rows_rate(self, rate: float) -> None:
        """Sets the learning rate of the rows."""
        if rate != self.rows_rate:
            self.rows_rate = rate
            for collection in (self._item_bags, self._context_bags):
                if collection is not None:
                    for group in collection.fused_optimizer().param_groups:
                        group["lr"] = rate
                    collection.fused_optimizer().step()  # only hands the rate on: `backward` updates the rows

    @torch.no_grad()
    def forget(self, key: str, rows: slice, left: float) -> None:
        """Keeps a share of the sums that the optimizer has of some rows."""
        self.sparse_state[key][rows].mul_(left)

    def live(self) -> dict[str, Tensor]:
        """All parameters as they are, by contract name; tables with all their rows and padding."""
        return {**self.tables, **self.dense}

    @cached_property
    def tables(self) -> dict[str, Tensor]:
        """The sparse tables by key, `[rows, width rounded up to four]`, as views: writing to one changes the table."""
        found = _named_tables(self._item_bags)
        return found if self._context_bags is None else found | _named_tables(self._context_bags)

    @cached_property
    def sparse_state(self) -> dict[str, Tensor]:
        """The row optimizer's state by table key, as views: the sums of squared gradients."""
        found: dict[str, Tensor] = {}
        for collection in (self._item_bags, self._context_bags):
            if collection is not None:
                for entry in collection.fused_optimizer().state_dict()["state"].values():
                    found |= {
                        name.removesuffix(".weight.momentum_1").replace("/", "."): value
                        for name, value in entry.items()
                    }
        return found

    @torch.no_grad()
    def set_rows(self, key: str, rows: Sequence[int], keys: Sequence[str]) -> None:
        """Gives rows of a table their first values, from the keys that own the rows."""
        if len(rows):
            width = self.width if not key.startswith("context.") else self.shape.context_dim
            self.tables[key][list(rows), :width] = self.fresh(key, list(keys), width)

    @torch.no_grad()
    def clear_rows(self, key: str, rows: Sequence[int]) -> None:
        """Makes rows of a table zero, and their sums in the optimizer too. These rows belong to no key now."""
        if len(rows):
            for part in (self.tables[key], self.sparse_state[key]):
                part[list(rows)] = 0.0

    @torch.no_grad()
    def copy_rows(self, key: str, rows: Sequence[int], sources: Sequence[int]) -> None:
        """Gives rows of a table the values of other rows. The optimizer's sums are not copied."""
        self.tables[key][list(rows)] = self.tables[key][list(sources)]

    def items(self, encoded: EncodedItems, id_rows_U: np.ndarray) -> Items:
        """The item tower.

        Args:
            encoded: U items.
            id_rows_U: The rows of `id` to use. They can differ from the encoded ones (id dropout).
        """
        bags: dict[str, np.ndarray] = {"id": id_rows_U[:, None]}
        bags |= {key: encoded.fields[key.removeprefix("item.")] for key in self._item_keys[1:]}
        # torchrec gives, for each item, the mean row of each bag, side by side. Add them up, and cut off the padding.
        pooled = self._item_bags(_jagged(bags)).values()
        output_UW = pooled.view(len(id_rows_U), len(bags), -1).sum(1)[:, : self.width]
        for name, field in self.spec.item.items():
            if field.kind not in BAGS:
                output_UW = output_UW + torch.from_numpy(encoded.fields[name]) @ self.dense[f"item.{name}"]
        vectors_UD, biases_U1, _ = output_UW.split(layout.parts(self.dim), -1)
        return Items(output_UW, vectors_UD, biases_U1[:, 0])

    def users(self, items: Items, history_BH: Tensor, requests: Requests, *, draws: Draws | None = None) -> Tensor:
        """The user tower, `[B, D]`.

        Args:
            items: What the item tower gave for the items of the step.
            history_BH: int `[B, H]`, the history as places in `items`, newest first; −1 where there is none.
            requests: Actions, ages and context of the same B requests.
            draws: Random numbers for the dropout of a training step; None drops nothing, as in serving.
        """
        at = self.dense
        mask_BH = history_BH >= 0
        actions_BH = torch.from_numpy(requests.history_actions_BH)
        ages_BH = torch.from_numpy(requests.history_ages_BH)
        length = history_BH.shape[1]
        output_BHW = F.embedding(history_BH.clamp_min(0), items.output_UW)
        # One split is faster than two slices: the gradient of each slice is a whole tensor, mostly zeros.
        vectors_BHD, _, raw_BH1 = output_BHW.split(layout.parts(self.dim), -1)
        # First pool: the weight of an event is its item's weight (above 0 by softplus) times its action's weight.
        weights_BH = F.softplus(raw_BH1[..., 0] + layout.UNIT_WEIGHT) * _pick(at["user.action"], actions_BH) * mask_BH
        count_B1 = mask_BH.sum(1, keepdim=True).clamp_min(1)
        # Second pool: the share of an event is a softmax over position + age + action.
        logits_BH = (
            at["user.position"][:length] + _pick(at["user.age"], ages_BH) + _pick(at["user.action_logit"], actions_BH)
        )
        # Padding gets the lowest number, so its share is 0. A row of an empty history is set to zero after the softmax.
        attention_BH = logits_BH.masked_fill(~mask_BH, torch.finfo(logits_BH.dtype).min).softmax(1) * mask_BH
        # Both pools in one product: [B, 2, H] @ [B, H, D]; the first is divided by √(number of events).
        pools_B2D = torch.stack([weights_BH / count_B1.sqrt(), attention_BH], 1) @ vectors_BHD
        features = torch.cat([pools_B2D.flatten(1), *self._context(requests, len(history_BH))], 1)
        if draws is not None and self.dropout > 0:
            # Dropout: an input becomes 0, or is divided by the share of inputs that stay.
            kept = draws(features.numel()).reshape(features.shape) >= self.dropout
            features = features * torch.from_numpy(kept.astype(np.float32) / (1 - self.dropout))
        hidden = torch.relu(torch.addmm(at["user.b1"], features, at["user.w1"]))
        skip_BD = (pools_B2D * at["user.skip"][:, None]).sum(1)
        users_BD: Tensor = torch.addmm(at["user.b2"], hidden, at["user.w2"]) + skip_BD
        return users_BD

    def _context(self, requests: Requests, batch: int) -> list[Tensor]:
        """One `[B, C]` for each context field, in the specification's order."""
        found: dict[str, Tensor] = {}
        if self._context_bags is not None:
            bags = {key: requests.context[key.removeprefix("context.")] for key in self._context_keys}
            pooled = self._context_bags(_jagged(bags)).values().view(batch, len(bags), -1)
            found = {key: pooled[:, i, : self.shape.context_dim] for i, key in enumerate(bags)}
        for name, field in self.spec.context.items():
            if field.kind not in BAGS:
                key = f"context.{name}"
                found[key] = torch.from_numpy(requests.context[name]) @ self.dense[key]
        return [found[f"context.{name}"] for name in self.spec.context]

    def weights(
        self, used: Mapping[str, int], values: Mapping[str, Tensor | Rows] | None = None, take: Take = at_once
    ) -> dict[str, np.ndarray]:
        """All parameters as float32 arrays under their contract names.

        Args:
            used: How many rows of a table are in use. The others have no key yet and are left out.
            values: Take these in place of the parameters, in the form of `live`. Of a table it may be its rows.
            take: Copies the rows of a table, see `copying`.
        """
        arrays = {}
        for key, value in (self.live() if values is None else values).items():
            if (table := self.tables.get(key)) is not None:
                width = self.shape.context_dim if key.startswith("context.") else self.width
                now = rows_of(value) if isinstance(value, Tensor) else value
                arrays[key] = take(key, now, (used.get(key, len(table)), table.shape[1]), width)
            elif isinstance(value, Tensor):
                arrays[key] = value.detach().numpy().copy()
        return arrays


def uniform(states: np.ndarray, counters: np.ndarray) -> np.ndarray:
    """Uniform float64 in [0, 1) from (state, counter), uint64 each.

    It is a counter-based generator, so it has no state to save.

    The mixing function is the finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
    """
    with np.errstate(over="ignore"):  # the arithmetic is modulo 2^64, so overflow is wanted
        z = states + (counters + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return np.asarray((z >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def _bags(spec: FeatureSpec, side: str, fields: Mapping[str, Field]) -> dict[str, int]:
    """Table heights of a side's category and text fields, by key."""
    return {f"{side}.{name}": spec.rows(f"{side}.{name}") for name, field in fields.items() if field.kind in BAGS}


def _named_tables(collection: FusedEmbeddingBagCollection) -> dict[str, Tensor]:
    state = collection.state_dict()
    return {
        name.removeprefix("embedding_bags.").removesuffix(".weight").replace("/", "."): value
        for name, value in state.items()
    }


def _jagged(bags: Mapping[str, np.ndarray]) -> KeyedJaggedTensor:
    """Bags of rows as torchrec takes them: all bags of one key, then all of the next.

    Each key has `[N, M]`, padded with −1. Torchrec takes the keys apart again. It is told the parts here, since to find
    them costs it as much as to look the rows up.
    """
    found = [_real(rows_NM) for rows_NM in bags.values()]
    values = torch.from_numpy(np.concatenate([rows for rows, _ in found]).astype(np.int32))
    lengths = torch.from_numpy(np.concatenate([lengths_N for _, lengths_N in found]))
    counts = [len(rows) for rows, _ in found]
    size = len(lengths) // len(counts)
    each = zip(bags, values.split(counts), lengths.split(size), strict=True)
    return KeyedJaggedTensor(
        keys=list(bags),
        values=values,
        lengths=lengths,
        stride=size,
        length_per_key=counts,
        jt_dict={key: JaggedTensor(rows, lengths=lengths_N) for key, rows, lengths_N in each},
    )


def _real(rows_NM: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows of a key without their padding, and how many each bag has, int32 `[N]`."""
    real_NM = rows_NM >= 0
    if real_NM.all():
        return rows_NM.ravel(), np.full(len(rows_NM), rows_NM.shape[1], np.int32)
    return rows_NM[real_NM], real_NM.sum(1, dtype=np.int32)


def _pick(vector: Tensor, places: Tensor) -> Tensor:
    """vector[places], in the way whose gradient is fastest on a CPU."""
    return vector.index_select(0, places.flatten()).view(places.shape)
