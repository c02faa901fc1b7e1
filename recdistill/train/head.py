"""A small head of its own for the teacher's scores. It teaches the towers, and is never served.

Without it one score takes both losses, so what the teacher has wrong goes into what is served. With it, the loss of the
teacher's scores is taken on

    s = (u + u · turn) · v + level · b

with the user's vector u, the item's vector v and its bias b. Its gradient flows through the head into both towers.
The score that is served, u · v + b, takes the loss of the labels alone. Nothing flows from the served score to the
head, and no served weight belongs to the head. This is the auxiliary head of Meta's ExFM (Liang et al., WWW 2025).

The head starts as the served score does: `turn` is 0 and `level` is 1. A checkpoint holds it. A bundle does not.

It knows nothing of losses, files or labels.

Example:
    >>> head = Head(dim=2, rate=0.1)
    >>> items = Items(torch.tensor([[1.0, 2.0, 0.5, 0.0]]), torch.tensor([[1.0, 2.0]]), torch.tensor([0.5]))
    >>> head.scores(torch.tensor([[3.0, 1.0]]), items, np.array([[0]])).tolist()  # 3 · 1 + 1 · 2 + 0.5
    [[5.5]]
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recdistill.errors import CheckpointError
from recdistill.model import layout
from recdistill.train.student import Items

PREFIX = "head/"

MOMENTS = ("exp_avg", "exp_avg_sq", "step")
"""torch's names for what Adam remembers of one parameter."""


class Head:
    """The head and its own optimizer.

    Args:
        dim: Length of the vector of a user or an item.
        rate: Learning rate (Adam).
    """

    def __init__(self, dim: int, rate: float) -> None:
        self.turn = nn.Parameter(torch.zeros(dim, dim))
        self.level = nn.Parameter(torch.ones(1))
        self._adam = torch.optim.Adam([self.turn, self.level], lr=rate)

    @property
    def _named(self) -> dict[str, nn.Parameter]:
        return {"turn": self.turn, "level": self.level}

    def scores(self, user_BD: Tensor, items: Items, places_BL: np.ndarray) -> Tensor:
        """The head's scores of the lists' candidates, `[B, L]`. Place −1 takes item 0.

        Args:
            user_BD: A vector for each list, as the user tower gives it.
            items: What the item tower gave.
            places_BL: Each candidate's place in `items`.
        """
        output_BLW = F.embedding(torch.from_numpy(np.maximum(places_BL, 0)), items.output_UW)
        vectors_BLD, biases_BL1, _ = output_BLW.split(layout.parts(user_BD.shape[1]), -1)
        turned_BD = torch.addmm(user_BD, user_BD, self.turn)
        scores_BL: Tensor = torch.baddbmm(self.level * biases_BL1, vectors_BLD, turned_BD[:, :, None])[..., 0]
        return scores_BL

    def begin(self, rate: float) -> None:
        """Before the gradient of a step: forgets the last one.

        Args:
            rate: Learning rate of this step.
        """
        self._adam.zero_grad()
        for group in self._adam.param_groups:
            group["lr"] = rate

    def update(self) -> None:
        """After the gradient of a step: one update, where something has reached the head."""
        self._adam.step()

    def state(self) -> dict[str, np.ndarray]:
        """What a checkpoint holds."""
        held = {}
        for name, parameter in self._named.items():
            held[PREFIX + name] = parameter.detach().numpy().copy()
            for moment, value in self._adam.state.get(parameter, {}).items():
                held[f"{PREFIX}{moment}.{name}"] = value.numpy().copy()
        return held

    @torch.no_grad()
    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Takes what `state()` gave. A checkpoint without a head leaves it as it starts.

        Raises:
            CheckpointError: It is not whole, or of another width.
        """
        if not any(name.startswith(PREFIX) for name in arrays):
            return
        for name, parameter in self._named.items():
            if (saved := arrays.get(PREFIX + name)) is None or saved.shape != tuple(parameter.shape):
                raise CheckpointError(f"checkpoint: {PREFIX}{name} is not of this student")
            parameter.copy_(torch.from_numpy(np.array(saved, np.float32)))
            found = {moment: arrays.get(f"{PREFIX}{moment}.{name}") for moment in MOMENTS}
            held = {moment: torch.from_numpy(np.array(value)) for moment, value in found.items() if value is not None}
            self._adam.state.pop(parameter, None)
            if held:
                self._adam.state[parameter] = held
