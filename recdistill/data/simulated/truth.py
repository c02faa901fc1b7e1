"""The truth about every request of a simulated world: utilities, chances of clicks, and the best possible ranking.

It knows the world's catalogue and what users wanted at each request. It does not know why they wanted it.

Example:
    >>> from recdistill.data.simulated.simulator import SimulatorSettings, simulate
    >>> data, truth = simulate(SimulatorSettings(items=60, users=20, impressions=40, days=20, shortest=10, longest=12))
    >>> request = data.impressions[7]
    >>> best = truth.top([request], 1)[0][0]
    >>> bool(truth.utilities(request.id)[truth.allowed(request)].max() == truth.utilities(request.id)[truth.row(best)])
    True
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from recdistill.data.simulated.world import Catalogue, Floats, attraction
from recdistill.metrics import ndcg
from recdistill.records import Impression


def utilities_of(catalogue: Catalogue, strength: float, taste_D: Floats, boost_K: Floats) -> Floats:
    """[N], the utility of every item, as the header of `recdistill.data.simulated.world` defines it."""
    utility_N: Floats = catalogue.latent_ND @ (np.float32(strength) * taste_D)
    utility_N += catalogue.popularity_N
    utility_N += boost_K[catalogue.topic_N]
    return utility_N


class Truth:
    """The truth of a simulated world, for every request and every item. It is also a contender that ranks by the truth.

    Items are numbered in the order of launch; `item_ids` names them.
    """

    name = "best possible"

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        item_ids: list[str],
        request_ids: Sequence[str],
        taste_ID: Floats,
        boost_IK: Floats,
        offset: float,
        strength: float,
        position_bias: float,
    ) -> None:
        self.item_ids = item_ids
        self.catalogue = catalogue
        self.offset = offset
        self.position_bias = position_bias
        self._strength = strength
        self._number = {name: number for number, name in enumerate(request_ids)}
        self._row = {name: row for row, name in enumerate(item_ids)}
        self._taste_ID = taste_ID
        self._boost_IK = boost_IK

    def row(self, item: str) -> int:
        """Number of an item."""
        return self._row[item]

    def utilities(self, impression_id: str) -> Floats:
        """[N], the utility of every item for one request of this world, also of items that are gone or were had.

        Raises:
            KeyError: The world had no such request.
        """
        number = self._number[impression_id]
        return utilities_of(self.catalogue, self._strength, self._taste_ID[number], self._boost_IK[number])

    def attractions(self, impression_id: str) -> NDArray[np.float64]:
        """[N], probability of a click on each item, if the user looks at it."""
        return attraction(self.utilities(impression_id), self.offset)

    def allowed(self, impression: Impression) -> NDArray[np.bool_]:
        """[N], which items are there at that time and were not had by the user."""
        allowed_N = self.catalogue.live(impression.time_us)
        allowed_N[[self._row[event.item] for event in impression.history]] = False
        allowed_N[[self._row[item] for item in impression.exclude]] = False
        return allowed_N

    def top(self, requests: Sequence[Impression], k: int) -> list[list[str]]:
        """The k items with the highest true utility, best first, for each request."""
        answers = []
        for one in requests:
            utility_N = np.where(self.allowed(one), self.utilities(one.id), -np.inf)
            best = np.argsort(-utility_N, kind="stable")[:k]
            answers.append([self.item_ids[row] for row in best.tolist() if utility_N[row] > -np.inf])
        return answers

    def scores(self, requests: Sequence[Impression]) -> list[NDArray[np.float64]]:
        """The true utility of each candidate that was shown."""
        return [
            self.utilities(one.id)[[self._row[candidate.item] for candidate in one.candidates]].astype(np.float64)
            for one in requests
        ]

    def best_possible(self, impressions: Sequence[Impression], clicked: Mapping[str, set[str]], k: int = 10) -> float:
        """Mean NDCG@k of the true order over the whole catalogue, on lists with a click; NaN if no list has one."""
        values = []
        for one in impressions:
            if not clicked.get(one.id):
                continue
            labels_N = np.zeros(len(self.item_ids))
            labels_N[[self._row[item] for item in clicked[one.id]]] = 1.0
            values.append(float(ndcg(self.utilities(one.id), labels_N, where=self.allowed(one), k=k)))
        return float(np.mean(values)) if values else float("nan")
