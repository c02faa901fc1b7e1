"""Answers requests from a bundle and the live changes to its catalogue. The endpoint and the judge both use it.

The user tower (ONNX) makes a user vector of a request's history and context. Then the best k items that pass the
filters are found. A request about which nothing is known (no known item in its history, no context) gets the popular
items first; the answer says so. An answer is never empty while a live item passes its filters.

A request reads one state of the catalogue, and a state never changes. `apply_items` makes the next state and then
replaces the reference. So any number of threads may ask while one thread applies records.

It does not know HTTP, logs or registries.

Example:
    >>> from pathlib import Path
    >>> from recdistill.bundle import open_bundle
    >>> Recommender(open_bundle(Path("no/such/folder")))
    Traceback (most recent call last):
    recdistill.errors.BundleError: no/such/folder: there is no bundle here; give the folder that holds manifest.json
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from recdistill.bundle import Bundle, read_index
from recdistill.errors import RequestError
from recdistill.features import Asker
from recdistill.model import layout, run
from recdistill.records import Item
from recdistill.serve import golden
from recdistill.serve.answers import RankAnswer, RecommendAnswer, SimilarAnswer, Source
from recdistill.serve.changes import Changes, known_rows
from recdistill.serve.filters import Sieve
from recdistill.serve.index import Base, Floats, Mask, Slots
from recdistill.serve.requests import Filters, Request
from recdistill.serve.state import State
from recdistill.serve.users import UserVectors
from recdistill.text import cut

_POSTING: Final = 100  # to make the postings of an attribute takes as long as to score the catalogue so many times
_NAMING: Final = 20  # to put one item into an answer takes as long as to score so many items


class Recommender:
    """A bundle that answers.

    Args:
        bundle: The opened bundle.
        threads: Threads of one inference.

    Raises:
        BundleError: A tower or the index cannot be loaded.
    """

    def __init__(self, bundle: Bundle, *, threads: int = 1) -> None:
        self.bundle = bundle
        users = run.UserTower(bundle.user_tower, source=str(bundle.path / "user_tower.onnx"), threads=threads)
        items = run.ItemTower(bundle.item_tower, source=str(bundle.path / "item_tower.onnx"), threads=threads)
        content, index = bundle.manifest.content, None
        if bundle.index is not None:
            count, width = bundle.vectors_NW.shape
            source = str(bundle.path / "index.faiss")
            index = read_index(bundle.index, content.index, count=count, width=width - 1, source=source)
        self._first = self._state = State.first(
            [item.id for item in bundle.items],
            Base(bundle.vectors_NW, index, content.index.probes),
            popular=[item for item, _ in bundle.popular],
            position=content.base_position,
        )
        self._users = UserVectors(bundle.spec, bundle.vocabulary, users)
        self._sieve = Sieve(bundle.items)
        self._writer = threading.Lock()  # only its holder uses `_changes`
        self._changes = Changes(
            bundle.items,
            bundle.spec,
            bundle.vocabulary,
            items,
            lambda: known_rows(bundle.items, bundle.vectors_NW, bundle.spec, bundle.vocabulary, items),
        )

    @property
    def content_hash(self) -> str:
        """The content hash of the bundle."""
        return self.bundle.content_hash

    @property
    def ids(self) -> list[str]:
        """Item ids by slot: the columns of `score_all`. A changed item has several slots, and at most one is live."""
        return self._state.ids

    @property
    def position(self) -> int:
        """Next offset of `items` that the catalogue has not seen."""
        return self._state.position

    @property
    def live(self) -> int:
        """How many items an answer may hold now."""
        return self._state.live

    def recommend(
        self,
        requests: Sequence[Request],
        k: int,
        filters: Filters | Sequence[Filters | None] | None = None,
        *,
        more: int = 0,
        pause: Callable[[], None] = lambda: None,
    ) -> list[RecommendAnswer]:
        """The best k items for each request.

        Args:
            requests: B requests.
            k: Most items in an answer. There are fewer only when fewer items pass the filters.
            filters: One for all requests, or one for each request.
            more: So many items may come after the k. They do not count where an answer says its source.
            pause: Called before each answer. A caller with other work to do may do it there.

        Raises:
            RequestError: A context value does not fit its field, no item has an attribute of a filter, or k is not
                positive.
        """
        _check_k(k)
        if not requests:
            return []
        each = [filters] * len(requests) if isinstance(filters, Filters | None) else list(filters)
        if len(each) != len(requests):
            raise RequestError(
                "filters", f"must be one for all or one each of {len(requests)} requests, not {len(each)}"
            )
        state = self._state
        for row, chosen in enumerate(each):
            self._check(state, chosen, f"requests[{row}]." if len(requests) > 1 else "")
        users = self._users(state, requests)
        answers = []
        for row, (request, chosen) in enumerate(zip(requests, each, strict=True)):
            pause()
            allowed_T = self._sieve.allowed(state, chosen, request.exclude)
            known = bool(users.known_B[row])
            slots, scores, source = _best(state, users.vectors_BD[row], k, allowed_T, known=known, more=more)
            answers.append(
                RecommendAnswer(
                    items=state.names(slots),
                    scores=scores.tolist(),
                    source=source,
                    bundle=self.bundle.content_hash,
                    overlay=state.position,
                    unknown_history=int(users.unknown_B[row]),
                )
            )
        return answers

    def rank(self, request: Request, candidates: Sequence[str]) -> RankAnswer:
        """The given candidates, best first. Those that are withdrawn or not in the catalogue are left out and named.

        Raises:
            RequestError: A context value does not fit its field.
        """
        return self.rank_each([request], [candidates])[0]

    def rank_each(self, requests: Sequence[Request], candidates: Sequence[Sequence[str]]) -> list[RankAnswer]:
        """As `rank`, for each request and its candidates. The user vectors are made at once, which is quicker.

        Raises:
            RequestError: A context value does not fit its field.
        """
        state = self._state
        users = self._users(state, requests)
        answers = []
        for row, given in enumerate(candidates):
            wanted = dict.fromkeys(given)
            found = state.slots(wanted)
            slots = found[state.shelf.live_T[found]]
            scores = _scores(state, users.vectors_BD[row], slots)
            order = np.lexsort((slots, -scores))
            items = state.names(slots[order])
            ranked = set(items)
            answers.append(
                RankAnswer(
                    items=items,
                    scores=scores[order].tolist(),
                    source="personal" if users.known_B[row] else "general",
                    bundle=self.bundle.content_hash,
                    overlay=state.position,
                    unknown_history=int(users.unknown_B[row]),
                    unknown=[item for item in wanted if item not in ranked],
                )
            )
        return answers

    def similar(self, item: str, k: int, filters: Filters | None = None) -> SimilarAnswer:
        """The items whose vectors have the largest cosine with an item's vector. The item itself is left out.

        Raises:
            RequestError: The item is not in the catalogue, no item has an attribute of a filter, or k is not positive.
        """
        _check_k(k)
        state = self._state
        self._check(state, filters, "")
        slot = state.slot_of.get(item)
        if slot is None:
            raise RequestError("item", f"{cut(item, 100)!r} is not in the catalogue; give the id of an item")
        cosines_T = state.shelf.cosines(slot)
        slots = np.flatnonzero(self._sieve.allowed(state, filters, (item,)))
        slots = slots[np.lexsort((slots, -cosines_T[slots]))][:k]
        return SimilarAnswer(
            items=state.names(slots),
            scores=cosines_T[slots].tolist(),
            bundle=self.bundle.content_hash,
            overlay=state.position,
        )

    def effort(self, k: int, filters: Filters | None = None) -> int:
        """About how much work one request is, in items to score. It is for choosing where to do the work."""
        state = self._state
        count, where = len(state.shelf.live_T), 0 if filters is None else len(filters.where)
        passes = (1 if self._sieve.ready(state, filters) else _POSTING) * where
        return count * (1 + passes) + _NAMING * k

    def _check(self, state: State, filters: Filters | None, path: str) -> None:
        try:
            self._sieve.check(state, filters)
        except RequestError as e:
            raise RequestError(path + e.field, e.problem) from None

    def score_all(self, requests: Sequence[Asker]) -> Floats:
        """Scores of every slot, float32 `[B, len(ids)]`. A slot without a live item has −inf.

        Raises:
            RequestError: A context value does not fit its field.
        """
        state = self._state
        scores_BT = state.shelf.scores(self._users(state, requests).vectors_BD)
        scores_BT[:, ~state.shelf.live_T] = -np.inf
        return scores_BT

    def check_golden(self) -> None:
        """Asks the bundle's golden requests again, without the live changes to its catalogue.

        Raises:
            BundleError: An answer differs from the answer at export. The error names the request and both scores.
        """
        state, source = self._first, str(self.bundle.path)
        for number, asked in enumerate(self.bundle.golden):
            scores_N = state.shelf.scores(self._users(state, [asked]).vectors_BD)[0]
            named = scores_N[state.slots(asked.items)]
            best = np.sort(scores_N)[::-1][: len(named)]
            golden.check(source, number, asked.scores, named=named, best=best)

    def forget_neighbours(self) -> None:
        """From now on, a new item gets its row from its attributes alone. This is for comparisons."""
        self._changes.known = None

    def apply_items(self, items: Sequence[Item], position: int) -> dict[str, int]:
        """Takes catalogue records, in log order, into the overlay. The next request already sees them.

        A new item gets its vector from its attributes, and from similar items (`serve.prior`).
        A record that was seen before changes nothing. A record that does not fit the feature specification is left out,
        so one bad record does not stop the others.

        Args:
            items: The records.
            position: Next offset of `items` after them.

        Returns:
            Counts: `changed` (new or with a new vector), `withdrawn`, `ignored` (older, or nothing new), `refused`.
        """
        with self._writer:
            self._state, counts = self._changes.apply(self._state, items, position)
        return counts


def _best(
    state: State, user_D: Floats, k: int, allowed_T: Mask, *, known: bool, more: int
) -> tuple[Slots, Floats, Source]:
    """The best k allowed slots and some more. If nothing is known about the user, popular items come first.

    If no popular item is allowed either, the model orders the items for anybody, and the answer says so.
    """
    most = k + more
    liked = state.popular[allowed_T[state.popular]][:most]
    if known or not len(liked):
        return *state.shelf.search(user_D, most, allowed_T), "personal" if known else "general"
    slots: Slots = liked
    source: Source = "popular"
    if len(liked) < most:
        rest_T = allowed_T.copy()
        rest_T[liked] = False
        others, _ = state.shelf.search(user_D, most - len(liked), rest_T)
        slots = np.concatenate([liked, others])
        source = "mixed" if len(others) and len(liked) < k else "popular"
    return slots, _scores(state, user_D, slots), source


def _scores(state: State, user_D: Floats, slots: Slots) -> Floats:
    rows = state.shelf.rows(slots)
    scores: Floats = rows[:, layout.VECTOR] @ user_D + rows[:, layout.BIAS]
    return scores


def _check_k(k: int) -> None:
    if k < 1:
        raise RequestError("k", f"must be at least 1, not {k}")
