"""The student in plain torch: torch's own tables, dense or sparse, and torch's own optimizers.

`benchmarks/bench_training.py` compares the trainer with it. It is also a second opinion: with the same batches and the
same first weights it must reach the same losses (tests/train/test_step.py). It takes the settings and the encoded
batches of recdistill. It uses nothing of `recdistill.train`.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from recdistill.config import LossSettings, StudentSettings
from recdistill.features import EncodedItems, Lists


class PlainStudent(nn.Module):
    """Both towers, with torch's own tables.

    Args:
        weights: The trainer's weights by contract name.
        heights: Rows of each table.
        settings: Shape of the student.
        sparse: Whether a step touches only the rows that the batch names, as an engineer would choose for large tables.
    """

    def __init__(
        self, weights: dict[str, np.ndarray], heights: dict[str, int], settings: StudentSettings, *, sparse: bool
    ) -> None:
        super().__init__()
        self.dim = settings.dim
        self.tables, self.rest = nn.ModuleDict(), nn.ParameterDict()
        for name, value in weights.items():
            key = name.replace(".", "/")
            if name in heights:
                table = nn.EmbeddingBag(heights[name], value.shape[1], mode="mean", sparse=sparse)
                with torch.no_grad():
                    table.weight.zero_()[: len(value)] = torch.from_numpy(value)
                self.tables[key] = table
            else:
                self.rest[key] = nn.Parameter(torch.from_numpy(value.copy()))

    def bag(self, name: str, rows_NM: np.ndarray) -> torch.Tensor:
        real_NM = rows_NM >= 0
        lengths_N = real_NM.sum(1)
        offsets_N = np.cumsum(lengths_N) - lengths_N
        return self.tables[name.replace(".", "/")](
            torch.from_numpy(rows_NM[real_NM].astype(np.int64)), torch.from_numpy(offsets_N)
        )

    def forward(self, items: EncodedItems, lists: Lists) -> torch.Tensor:
        """Scores of all given items, `[B, N]`. Slots are places in `items`."""
        output = self.bag("id", items.id_rows_N[:, None])
        for field, value in items.fields.items():
            sparse = f"item/{field}" in self.tables
            output = output + (
                self.bag(f"item.{field}", value) if sparse else torch.from_numpy(value) @ self.rest[f"item/{field}"]
            )
        vectors, biases = output[:, : self.dim], output[:, self.dim]
        strength = F.softplus(output[:, self.dim + 1] + np.log(np.e - 1))
        requests = lists.requests
        slots = torch.from_numpy(requests.history_slots_BH).long()
        there = slots >= 0
        slots = slots.clamp(min=0)
        actions, ages = (
            torch.from_numpy(requests.history_actions_BH).long(),
            torch.from_numpy(requests.history_ages_BH).long(),
        )
        history = vectors[slots]
        strengths = torch.where(there, strength[slots] * self.rest["user/action"][actions], 0.0)
        summed = (strengths[..., None] * history).sum(1) / there.sum(1, keepdim=True).clamp(min=1).sqrt()
        logits = self.rest["user/position"] + self.rest["user/age"][ages] + self.rest["user/action_logit"][actions]
        attention = torch.where(there, torch.softmax(torch.where(there, logits, -1e30), 1), 0.0)
        attended = (attention[..., None] * history).sum(1)
        context = [
            self.bag(f"context.{field}", value)
            if f"context/{field}" in self.tables
            else torch.from_numpy(value) @ self.rest[f"context/{field}"]
            for field, value in requests.context.items()
        ]
        hidden = torch.relu(torch.cat([summed, attended, *context], 1) @ self.rest["user/w1"] + self.rest["user/b1"])
        skip = self.rest["user/skip"]
        user = hidden @ self.rest["user/w2"] + self.rest["user/b2"] + skip[0] * summed + skip[1] * attended
        return user @ vectors.T + biases


class PlainLoop:
    """Trains step by step, with Adagrad for the tables and Adam for the rest."""

    def __init__(
        self,
        weights: dict[str, np.ndarray],
        heights: dict[str, int],
        settings: StudentSettings,
        loss: LossSettings,
        *,
        sparse: bool = False,
    ) -> None:
        self.student, self.loss = PlainStudent(weights, heights, settings, sparse=sparse), loss
        self.adagrad = torch.optim.Adagrad(
            self.student.tables.parameters(), lr=settings.embedding_learning_rate, eps=1e-8
        )
        self.adam = torch.optim.Adam(self.student.rest.parameters(), lr=settings.learning_rate)

    def learn(
        self, items: EncodedItems, lists: Lists, teacher_BL: np.ndarray, live_N: np.ndarray, *, whole: bool
    ) -> float:
        """One step. `whole`: labels compete with the live catalogue outside the history; otherwise with the list."""
        scores_BN = self.student(items, lists)
        where = torch.from_numpy(lists.where_BL & (lists.candidate_slots_BL >= 0))
        places = torch.from_numpy(lists.candidate_slots_BL).long().clamp(min=0)
        scores = scores_BN.gather(1, places)
        lowest = torch.finfo(torch.float32).min
        scored, hot = where & torch.from_numpy(lists.scored_BL), self.loss.temperature
        target = torch.softmax(torch.where(scored, torch.from_numpy(teacher_BL) / hot, lowest), 1)
        cross = -(target * torch.log_softmax(torch.where(scored, scores / hot, lowest), 1)).sum(1)
        cross = cross * hot**2
        # Both losses are sums over lists, divided by the lists of the batch.
        soft = torch.where(scored.sum(1) >= 2, cross, 0.0).sum() / len(scores)
        labels = torch.where(
            where & torch.from_numpy(lists.label_known_B)[:, None], torch.from_numpy(lists.labels_BL), 0.0
        )
        taken = labels.sum(1) > 0
        if whole:
            rivals = torch.from_numpy(live_N).repeat(len(scores), 1)
            slots = torch.from_numpy(lists.requests.history_slots_BH).long()
            batch, place = torch.nonzero(slots >= 0, as_tuple=True)
            rivals[batch, slots[batch, place]] = False
            batch, place = torch.nonzero(labels, as_tuple=True)
            rivals[batch, places[batch, place]] = True
            z = torch.logsumexp(torch.where(rivals, scores_BN, lowest), 1)
        else:
            z = torch.logsumexp(torch.where(where, scores, lowest), 1)
        each = (labels * (z[:, None] - scores)).sum(1)[taken] / labels.sum(1)[taken]
        label = each.sum() / len(scores)
        loss = self.loss.soft * soft + self.loss.label * label
        self.adagrad.zero_grad()
        self.adam.zero_grad()
        loss.backward()
        self.adagrad.step()
        self.adam.step()
        return float(loss.detach())

    def weights(self) -> dict[str, np.ndarray]:
        """Parameters by contract name. Tables have their full height."""
        tables = {key: table.weight for key, table in self.student.tables.items()}
        return {key.replace("/", "."): v.detach().numpy() for key, v in [*tables.items(), *self.student.rest.items()]}
