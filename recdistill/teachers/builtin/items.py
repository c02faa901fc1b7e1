"""The item side of a tower: an item's vector from its own row and from the rows of its attributes.

Both kinds of towers read their items in this way. They differ in how they make and update the tables.

It knows nothing of records, losses or slots: rows come in, vectors go out.

Example:
    >>> Bags({"item.genre": np.array([[1, 2], [3, -1]])}).lengths
    tensor([2, 1], dtype=torch.int32)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchrec import KeyedJaggedTensor

from recdistill.features import FeatureSpec
from recdistill.model import layout

BAGS = ("category", "text")
"""Kinds of attributes that have rows."""


def key_of(name: str) -> str:
    """A field's name as an attribute of a torch module. It must not be a name that a module already has."""
    return f"of_{name}"


class Bags:
    """The attribute rows of some items as torchrec takes them. They are made once and read often."""

    def __init__(self, fields: Mapping[str, np.ndarray]) -> None:
        values, lengths = [], []
        self.keys = list(fields)
        for rows_NM in fields.values():
            real_NM = rows_NM >= 0
            values.append(rows_NM[real_NM])
            lengths.append(real_NM.sum(1, dtype=np.int32))
        self.values = torch.from_numpy(np.concatenate(values).astype(np.int64)) if values else None
        self.lengths = torch.from_numpy(np.concatenate(lengths)) if lengths else None

    def with_ids(self, id_rows_N: Tensor) -> KeyedJaggedTensor:
        """These bags, with a first bag that holds only the item's own row."""
        ones = torch.ones(len(id_rows_N), dtype=torch.int32)
        if self.values is None or self.lengths is None:
            return KeyedJaggedTensor(keys=["id"], values=id_rows_N, lengths=ones)
        return KeyedJaggedTensor(
            keys=["id", *self.keys],
            values=torch.cat([id_rows_N, self.values]),
            lengths=torch.cat([ones, self.lengths]),
        )


class ItemSide(nn.Module):
    """What each tower has for its items. Whoever stands on it makes the attributes.

    Attributes:
        spec: The feature specification.
        dim: Numbers of a vector.
        item_dense: Weights of the attributes that are numbers, by `key_of` their names.
    """

    spec: FeatureSpec
    dim: int
    item_dense: nn.ParameterDict
    _bag_keys: list[str]
    _collection: Any

    @property
    def tables(self) -> dict[str, Tensor]:
        """The sparse tables by key, as views: writing to one changes the table."""
        return {
            name.removeprefix("embedding_bags.").removesuffix(".weight").replace("/", "."): table
            for name, table in self._collection.state_dict().items()
        }

    def dense_parameters(self) -> dict[str, nn.Parameter]:
        """The parameters that an ordinary optimizer updates: all except the tables."""
        return {name: p for name, p in self.named_parameters() if not name.startswith("_collection")}

    def weights(self) -> dict[str, Tensor]:
        """Tables and dense parameters by name, as views: writing to one changes the tower."""
        dense = {f"dense.{name}": p.detach() for name, p in self.dense_parameters().items()}
        return {f"table.{key}": table.detach() for key, table in self.tables.items()} | dense

    def items(self, id_rows_N: np.ndarray, fields: Mapping[str, np.ndarray], bags: Bags | None = None) -> Tensor:
        """The item side, `[N, D + 2]`: vector, bias, and a last number, in `Tower` the raw weight in a history.

        Args:
            id_rows_N: The items' own rows.
            fields: Their attributes by plain name, as `EncodedItems.fields`.
            bags: The result of `bags_of` for the same fields, if the caller has it.
        """
        bags = self.bags_of(fields) if bags is None else bags
        kjt = bags.with_ids(torch.from_numpy(id_rows_N.astype(np.int64)))
        pooled: Tensor = self._collection(kjt).values()
        output_NW: Tensor = pooled.view(len(id_rows_N), 1 + len(self._bag_keys), -1).sum(1)[:, : layout.width(self.dim)]
        for name, field in self.spec.item.items():
            if field.kind not in BAGS:
                output_NW = output_NW + torch.from_numpy(fields[name]) @ self.item_dense[key_of(name)]
        return output_NW

    def bags_of(self, fields: Mapping[str, np.ndarray]) -> Bags:
        """Attribute rows in the form that the tables read."""
        return Bags({key: fields[key.removeprefix("item.")] for key in self._bag_keys})
