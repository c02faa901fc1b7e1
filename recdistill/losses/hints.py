"""Losses on a teacher's vectors of users or of items, row by row.

Here a row is what a list is in the other losses. `where` says which rows are real, `weights` weighs rows, and the
result is the weighted mean over the rows. The papers sum over a batch: multiply a weight of theirs by the rows of a
batch.

Student and teacher can have vectors of different lengths. FitNet and DE learn a map between them, so they are modules.
Their parameters train with the student, and are not needed after training. First weights and noise come from an
explicit generator.

It knows nothing of how a student makes its vectors, or of optimizers.

Example:
    >>> import torch
    >>> student, teacher = torch.eye(2), torch.tensor([[3.0, 0.0, 0.0], [0.0, 5.0, 0.0]])
    >>> float(ftd(student, teacher, where=torch.tensor([True, True])))  # the same angles
    0.0
    >>> experts = DE(2, 3, experts=4, generator=torch.Generator().manual_seed(0))
    >>> experts.groups(teacher).shape
    torch.Size([2])
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recdistill.losses.reduce import mean_of_lists


class FitNet(nn.Module):
    """`‖W h_s + c − h_t‖²`: a linear map of the student's vector should be the teacher's vector.

    Romero et al., ICLR 2015 (FitNets), with a linear regressor.

    Args:
        student_dim: D.
        teacher_dim: E.
        generator: What the first weights are drawn with.

    Example:
        >>> hint = FitNet(2, 3, generator=torch.Generator().manual_seed(0))
        >>> hint(torch.zeros(4, 2), hint.bias.expand(4, 3), where=torch.ones(4, dtype=torch.bool)).item()
        0.0
    """

    def __init__(self, student_dim: int, teacher_dim: int, *, generator: torch.Generator) -> None:
        super().__init__()
        self.weight = _weights((student_dim, teacher_dim), student_dim, generator)
        self.bias = _weights((teacher_dim,), student_dim, generator)

    def forward(
        self, student_BD: Tensor, teacher_BE: Tensor, *, where: Tensor, weights: Tensor | None = None
    ) -> Tensor:
        """The loss.

        Args:
            student_BD: `[B, D]`.
            teacher_BE: `[B, E]`; no gradient flows into them.
            where: bool `[B]`.
            weights: `[B]`.

        Returns:
            A scalar, in squared units of the teacher's vectors.
        """
        return _squared(torch.addmm(self.bias, _real(student_BD, where), self.weight), teacher_BE, where, weights)


class DE(nn.Module):
    """Distillation experts: `‖h_t − Σ_m z_m E_m(h_s)‖²`, z the choice of an expert by the teacher's vector.

    `z = softmax((log softmax(V h_t + c) + g) / τ)` with Gumbel noise g. τ falls from 1 to almost 0 (`annealed`), so z
    is one-hot in the end. Each E_m is a layer of (D + E) // 2 with ReLU, and a linear layer. Kang et al., CIKM 2020
    (DE-RRD). Vectors that go to the same expert are a group; HTD uses these groups.

    Args:
        student_dim: D.
        teacher_dim: E.
        experts: M.
        generator: What the first weights are drawn with.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> hint, where = DE(2, 3, experts=4, generator=generator), torch.zeros(5, dtype=torch.bool)
        >>> hint(torch.ones(5, 2), torch.ones(5, 3), where=where, temperature=1.0, generator=generator).item()
        0.0
    """

    def __init__(self, student_dim: int, teacher_dim: int, *, experts: int, generator: torch.Generator) -> None:
        super().__init__()
        hidden = (student_dim + teacher_dim) // 2
        self.first = _weights((experts, student_dim, hidden), student_dim, generator)
        self.first_bias = _weights((experts, 1, hidden), student_dim, generator)
        self.second = _weights((experts, hidden, teacher_dim), hidden, generator)
        self.second_bias = _weights((experts, teacher_dim), hidden, generator)
        self.gate = _weights((teacher_dim, experts), teacher_dim, generator)
        self.gate_bias = _weights((experts,), teacher_dim, generator)

    def forward(
        self,
        student_BD: Tensor,
        teacher_BE: Tensor,
        *,
        where: Tensor,
        weights: Tensor | None = None,
        temperature: float,
        generator: torch.Generator,
    ) -> Tensor:
        """The loss.

        Args:
            student_BD: `[B, D]`.
            teacher_BE: `[B, E]`; no gradient flows into them.
            where: bool `[B]`.
            weights: `[B]`.
            temperature: τ > 0, of the choice.
            generator: What the noise is drawn with.

        Returns:
            A scalar, in squared units of the teacher's vectors.
        """
        log_shares_BM = self._log_shares(_real(teacher_BE.detach(), where))
        noise_BM = -torch.empty_like(log_shares_BM).exponential_(generator=generator).log()
        choice_BM = ((log_shares_BM + noise_BM) / temperature).softmax(1)
        student_BD = _real(student_BD, where)
        # Leave out pairs of row and expert with a tiny share: they change the sum, and the gate's gradient, by less
        # than rounding does. Most of the time the choice is nearly one-hot, so most experts get few rows.
        heard_BM = choice_BM > torch.finfo(choice_BM.dtype).eps * min(temperature, 1.0)
        mapped_BE = choice_BM @ self.second_bias
        # R pairs (expert, row), sorted by expert. `counts`: how many rows each expert gets.
        experts, rows = heard_BM.T.nonzero(as_tuple=True)
        counts = torch.bincount(experts, minlength=heard_BM.shape[1]).tolist()
        share_R1 = choice_BM.flatten().index_select(0, rows * heard_BM.shape[1] + experts)[:, None]
        # unbind and index_select are faster than x[i]: the gradient of x[i] is as large as x, for each i.
        layers = zip(self.first_bias.unbind(), self.first.unbind(), self.second.unbind(), strict=True)
        inputs = zip(student_BD.index_select(0, rows).split(counts), share_R1.split(counts), strict=True)
        parts = [
            (F.relu(torch.addmm(bias, mine_RD, first)) * share) @ second
            for (bias, first, second), (mine_RD, share) in zip(layers, inputs, strict=True)
        ]
        # Add each expert's part to the rows that it belongs to.
        mapped_BE = mapped_BE.index_add(0, rows, torch.cat(parts))
        return _squared(mapped_BE, teacher_BE, where, weights)

    @torch.no_grad()
    def groups(self, teacher_BE: Tensor) -> Tensor:
        """The expert of each row, without noise, int64 `[B]`."""
        return self._log_shares(teacher_BE).argmax(1)

    def _log_shares(self, teacher_BE: Tensor) -> Tensor:
        return torch.addmm(self.gate_bias, teacher_BE, self.gate).log_softmax(1)


def annealed(progress: float, start: float = 1.0, end: float = 1e-10) -> float:
    """The choice's temperature: `start · (end / start)^progress`, for progress from 0 to 1 (DE-RRD).

    Example:
        >>> annealed(0.0), round(annealed(0.1), 4)
        (1.0, 0.1)
    """
    return start * math.pow(end / start, progress)


def ftd(student_BD: Tensor, teacher_BE: Tensor, *, where: Tensor, weights: Tensor | None = None) -> Tensor:
    """Full topology distillation: the cosine of every pair of rows should be the teacher's.

    Row i's loss is `Σ_j (cos(t_i, t_j) − cos(s_i, s_j))²`. Kang et al., KDD 2021 (FTD); the paper sums over i.

    Args:
        student_BD: `[B, D]`, users and items together.
        teacher_BE: `[B, E]`; no gradient flows into them.
        where: bool `[B]`. A zero row has no direction and takes no part.
        weights: `[B]`.

    Returns:
        A scalar.

    Example:
        >>> student, teacher = torch.tensor([[1.0], [1.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> ftd(student, teacher, where=torch.tensor([True, True])).item()  # one pair, cosine 1 for 0
        1.0
    """
    s_BD, t_BE, active_B = _directions(student_BD, teacher_BE, where)
    return mean_of_lists(_pairs_apart(s_BD, t_BE), active_B, weights)


def htd(
    student_BD: Tensor,
    teacher_BE: Tensor,
    *,
    where: Tensor,
    weights: Tensor | None = None,
    groups: Tensor,
    level: Literal["members", "prototypes"] = "members",
) -> Tensor:
    """Hierarchical topology distillation: cosines within groups, and cosines of the groups' means.

    Row i's loss is `Σ_{j in its group} (cos(t_i, t_j) − cos(s_i, s_j))²` and, by level,

    - `members`: `Σ_g (cos(t̄_g, t_i) − cos(s̄_g, s_i))²`; the means s̄ get no gradient, as in the authors' code.
    - `prototypes`: the part of group g in `Σ_{g, h} (cos(t̄_g, t̄_h) − cos(s̄_g, s̄_h))²`, divided equally among its
      rows.

    Kang et al., KDD 2021 (HTD), whose loss is `γ · this + (1 − γ) · DE`, with the groups of that DE. Users and items
    have different experts: add M to the group numbers of one side. The authors leave out pairs whose teacher cosine is
    negative. Here they count.

    Args:
        student_BD: `[B, D]`, users and items together.
        teacher_BE: `[B, E]`; no gradient flows into them.
        where: bool `[B]`. A zero row has no direction and takes no part.
        weights: `[B]`.
        groups: int64 `[B]`, at least 0.
        level: What the part for groups compares.

    Returns:
        A scalar.

    Example:
        >>> rows, where = torch.eye(3), torch.ones(3, dtype=torch.bool)
        >>> htd(rows, 2 * rows, where=where, groups=torch.tensor([0, 0, 1])).item()
        0.0
    """
    s_BD, t_BE, active_B = _directions(student_BD, teacher_BE, where)
    numbers_B = groups.masked_fill(~active_B, -1)
    # Only the groups of this batch, with new numbers. Inactive rows are in no group.
    present_G = numbers_B.unique()
    members_GB = (numbers_B == present_G[:, None]) & active_B
    # Sort rows by group, take each group's pairs, and put the results back in the order of the batch.
    order_B = numbers_B.argsort(stable=True)
    within_B = torch.cat(
        [
            _pairs_apart(s_BD[rows], t_BE[rows])
            for rows in order_B.split((numbers_B == present_G[:, None]).sum(1).tolist())
        ]
    )
    # Inactive rows are zero, and so are their pairs.
    within_B = torch.empty_like(within_B).scatter(0, order_B, within_B)
    mean_GB = members_GB.to(s_BD.dtype) / members_GB.sum(1, keepdim=True).clamp_min(1)
    s_mean_GD = F.normalize(mean_GB @ _real(student_BD, active_B))
    t_mean_GE = F.normalize(mean_GB @ _real(teacher_BE.detach(), active_B)).to(s_BD.dtype)
    if level == "members":
        gap_BG = s_BD @ s_mean_GD.detach().T - t_BE @ t_mean_GE.T
        upper_B = (gap_BG**2).masked_fill(~members_GB.any(1), 0.0).sum(1)
    else:
        gap_GG = s_mean_GD @ s_mean_GD.T - t_mean_GE @ t_mean_GE.T
        upper_B = mean_GB.T @ (gap_GG**2).sum(1)
    return mean_of_lists(within_B + upper_B, active_B, weights)


def _pairs_apart(s_BD: Tensor, t_BE: Tensor) -> Tensor:
    """`Σ_j (t_i · t_j − s_i · s_j)²` of each row i, `[B]`, in the cheaper of two ways.

    Multiplied out, the square is `t_i (TᵀT) t_i − 2 t_i (TᵀS) s_i + s_i (SᵀS) s_i`. This needs no `[B, B]`. It is in
    float64, because it is a small difference of large sums.
    """
    if len(s_BD) <= s_BD.shape[1] + t_BE.shape[1]:
        return ((s_BD @ s_BD.T - t_BE @ t_BE.T) ** 2).sum(1)
    s, t = s_BD.to(torch.float64), t_BE.to(torch.float64)
    cross_ED = t.T @ s
    own_B = (s @ (s.T @ s) * s).sum(1) + (t @ (t.T @ t) * t).sum(1)
    return (own_B - 2 * (t @ cross_ED * s).sum(1)).clamp_min(0.0).to(s_BD.dtype)


def _weights(shape: tuple[int, ...], inputs: int, generator: torch.Generator) -> nn.Parameter:
    bound = 1 / math.sqrt(inputs)
    return nn.Parameter(torch.empty(shape, device=generator.device).uniform_(-bound, bound, generator=generator))


def _real(rows_BD: Tensor, where: Tensor) -> Tensor:
    return rows_BD.masked_fill(~where.unsqueeze(-1), 0.0)


def _squared(mapped_BE: Tensor, teacher_BE: Tensor, where: Tensor, weights: Tensor | None) -> Tensor:
    return mean_of_lists(((mapped_BE - teacher_BE.detach()) ** 2).sum(-1), where, weights)


def _directions(student_BD: Tensor, teacher_BE: Tensor, where: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of length 1 of both sides, 0 for those that take no part; and which rows take part."""
    teacher_BE = teacher_BE.detach()
    # Test for 0, not for "> 0": so a NaN row takes part, and is seen in the result.
    active_B = where & ~((student_BD == 0).all(1) | (teacher_BE == 0).all(1))
    s_BD, t_BE = (rows.masked_fill(~active_B[:, None], 1.0) for rows in (student_BD, teacher_BE))
    s_BD, t_BE = (rows / rows.norm(dim=1, keepdim=True) for rows in (s_BD, t_BE))
    return _real(s_BD, active_B), _real(t_BE, active_B).to(s_BD.dtype), active_B
