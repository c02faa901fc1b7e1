"""Students of a table of users × items: a row for each user, or a user made of its items.

| form | user vector |
| --- | --- |
| `rows` | a row of its own, as in the papers; it cannot leave the table |
| `history` | Σ h_i / √n over its items, h rows of a table of their own, through one matrix |
| `tied` | Σ w_i v_i / √n, v the item vectors themselves, w a learnt weight of each, through one matrix |

The last two need no user id, so they answer for histories that they have never seen. The score of an item is the inner
product plus, where wanted, the item's bias. It knows nothing of losses, teachers or time.

Example:
    >>> from scipy import sparse
    >>> table = sparse.csr_matrix(np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]], np.float32))
    >>> student = TableStudent(table, StudentForm("tied"), dim=4, seed=0)
    >>> student.scores(np.array([0, 1])).shape, student.size
    ((2, 3), 140)
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.tables.recipes import StudentForm
from recdistill.model import layout


class TableStudent(nn.Module):
    """User and item vectors.

    Args:
        table_UN: Scipy CSR matrix users × items, the training part.
        form: How a user comes to its vector.
        dim: D.
        seed: Of all first values.
    """

    def __init__(self, table_UN: Any, form: StudentForm, *, dim: int, seed: int) -> None:
        super().__init__()
        users, items = table_UN.shape
        random = torch.Generator().manual_seed(seed)
        self.form = form
        self._offsets_U1 = torch.from_numpy(table_UN.indptr.astype(np.int64))
        self._items_E = torch.from_numpy(table_UN.indices.astype(np.int64))
        self.items_ND = nn.Parameter(torch.randn(items, dim, generator=random) * form.init)
        self.biases_N = nn.Parameter(torch.zeros(items), requires_grad=form.bias)
        if form.form == "rows":
            self.rows_UD = nn.Parameter(torch.randn(users, dim, generator=random) * form.init)
            return
        if form.form == "history":
            self.history_ND = nn.Parameter(torch.randn(items, dim, generator=random) * form.init)
        else:
            self.raw_N = nn.Parameter(torch.zeros(items))
        self.matrix_DD = nn.Parameter(torch.eye(dim))
        self.start_D = nn.Parameter(torch.zeros(dim))

    def users(self, users_B: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """User vectors, `[B, D]`; a generator drops events, as in training."""
        if self.form.form == "rows":
            return F.embedding(users_B, self.rows_UD)
        lengths_B = self._offsets_U1[users_B + 1] - self._offsets_U1[users_B]
        first_B = lengths_B.cumsum(0) - lengths_B
        within_E = torch.arange(int(lengths_B.sum())) - first_B.repeat_interleave(lengths_B)
        items_E = self._items_E[within_E + self._offsets_U1[users_B].repeat_interleave(lengths_B)]
        shares_E = lengths_B.clamp_min(1).to(torch.float32).rsqrt().repeat_interleave(lengths_B)
        if generator is not None and self.form.dropout > 0:
            kept_E = torch.rand(len(items_E), generator=generator) >= self.form.dropout
            shares_E = shares_E * kept_E / (1 - self.form.dropout)
        if self.form.form == "history":
            pooled_BD = F.embedding_bag(items_E, self.history_ND, first_B, per_sample_weights=shares_E, mode="sum")
        else:
            weights_E = shares_E * F.softplus(self.raw_N[items_E] + layout.UNIT_WEIGHT)
            pooled_BD = F.embedding_bag(items_E, self.items_ND, first_B, per_sample_weights=weights_E, mode="sum")
        return torch.addmm(self.start_D, pooled_BD, self.matrix_DD)

    @property
    def size(self) -> int:
        """Bytes in float32 of what it has learnt."""
        return 4 * sum(p.numel() for p in self.parameters() if p.requires_grad)

    @torch.no_grad()
    def scores(self, users: np.ndarray) -> np.ndarray:
        """Scores of all items for some users of the table, f32 `[B, N]`."""
        users_BD = self.users(torch.from_numpy(np.asarray(users, np.int64)))
        scores_BN: np.ndarray = torch.addmm(self.biases_N, users_BD, self.items_ND.T).numpy()
        return scores_BN
