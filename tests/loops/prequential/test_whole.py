"""Lists are scored when they come, and counted when their labels come; a run that goes on counts the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import ndcg_score
from support import world

from recdistill.loops.prequential import Prequential
from recdistill.loops.prequential.rivals import Rivals
from recdistill.loops.prequential.whole import Asked, hash_of
from recdistill.records import Columns, Example, Impression, Ranking, encode, read_columns

SECOND = world.SECOND


def example(shown: Impression, labels: Sequence[float] | None, state: Any) -> Example:
    scores = tuple(world.by_hash([shown])[0])
    ranking = Ranking(shown, "hash", "1", "logit", scores, (True,) * len(scores))
    return Example(ranking, tuple(labels or (0.0,) * len(scores)), state)


def columns(examples: Sequence[Example]) -> Columns:
    found, refused = read_columns(Example, [encode(one) for one in examples])
    assert not refused
    return found


def labels_of(shown: Impression) -> list[float]:
    """One click each on the candidate whose number is lowest; every fourth list has none."""
    numbers = [int(one.item.split("-")[1]) for one in shown.candidates]
    return [float(number == min(numbers) and shown.time_us // SECOND % 4 != 0) for number in numbers]


def by_number(examples: Columns) -> Any:
    """A student that prefers low numbers, badly."""
    ends = np.cumsum(examples.counts_E)

    def scores(rows: np.ndarray) -> np.ndarray:
        out = np.full((len(rows), int(examples.counts_E.max())), np.nan, np.float32)
        for at, row in enumerate(rows.tolist()):
            items = examples.items.texts(int(ends[row] - examples.counts_E[row]), int(ends[row]))
            out[at, : len(items)] = [-(int(item.split("-")[1]) // 4) for item in items]
        return out

    return scores


class Champ:
    """A champion that knows only items with an even number."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def scores(self, examples: Columns, asked: Sequence[Asked]) -> list[np.ndarray]:
        self.asked += [examples.ids[one.row] for one in asked]
        numbers = [[int(item.split("-")[1]) for item in one.items] for one in asked]
        return [np.array([np.nan if n % 2 else float(-n) for n in each], np.float32) for each in numbers]


def stream(count: int, delay: int) -> list[Example]:
    """Lists as they are ranked, each with its labels so many lists later."""
    lists = world.impressions(count)
    found = []
    for number in range(count + delay):
        if number < count:
            found.append(example(lists[number], None, "none"))
        if number >= delay and any(labels_of(lists[number - delay])):
            found.append(example(lists[number - delay], labels_of(lists[number - delay]), "labels"))
    return found


def run(
    prequential: Prequential, examples: Sequence[Example], batch: int = 10, champion: Any = None, step: int = 0
) -> None:
    for number, begin in enumerate(range(0, len(examples), batch)):
        some = columns(examples[begin : begin + batch])
        prequential.take(some, by_number(some), champion, step=step + number)


def test_each_line_is_what_another_library_finds_with_the_scores_of_the_moment() -> None:
    prequential = Prequential(share=1.0, window_s=1000, labels_within_s=1000, half_life=20)
    examples, batch = stream(80, delay=15), 10
    run(prequential, examples, batch, Champ())
    now = prequential.told()["now"]
    # Brute force: the rivals learn behind each step; a list is scored before its own.
    rivals, scored, wanted = Rivals(), dict[str, Any](), {name: [] for name in ("teacher", "popularity", "weights")}
    for begin in range(0, len(examples), batch):
        step = examples[begin : begin + batch]
        for one in step:
            shown = one.ranking.impression
            if one.label_state == "none":
                items = [candidate.item for candidate in shown.candidates]
                numbers = [int(item.split("-")[1]) for item in items]
                scored[shown.id] = {
                    "teacher": one.ranking.scores,
                    "popularity": rivals.popularity(items),
                    "weights": [-(number // 4) for number in numbers],
                }
        for one in step:
            if one.label_state == "labels":
                shown = one.ranking.impression
                for name, scores in scored[shown.id].items():
                    wanted[name].append(ndcg_score([one.labels], [scores], k=10))
                items = [c.item for c, label in zip(shown.candidates, one.labels, strict=True) if label]
                rivals.learn([event.item for event in shown.history], items, half_life=20)
    for name, values in wanted.items():
        assert now["ndcg"][name]["n"] == len(values) == 60
        assert now["ndcg"][name]["mean"] == pytest.approx(np.mean(values), abs=1e-6), name
    assert now["ndcg"]["weights"]["groups"] == 7  # users
    assert now["ndcg"]["weights"]["mean"] > now["ndcg"]["champion"]["mean"] > 0
    assert now["agreement"]["weights"]["n"] == 80
    assert "teacher" not in now["agreement"]
    assert prequential.counts == {"prequential_lists": 80, "prequential_labelled": 60}


@pytest.mark.parametrize(("share", "stride"), [(0.8, 1), (0.3, 3), (0.02, 10)])
def test_a_share_is_chosen_by_the_step_and_the_id_and_costs_nothing_for_the_others(share: float, stride: int) -> None:
    champion, prequential = Champ(), Prequential(share=share, window_s=1000)
    examples = stream(600, delay=5)
    run(prequential, examples, champion=champion)
    shown = [(n // 10, one.ranking.impression.id) for n, one in enumerate(examples) if one.label_state == "none"]
    below = share * stride * 2**64
    assert champion.asked == [
        one for step, one in shown if step % stride == 0 and int.from_bytes(hash_of(one), "big") < below
    ]
    assert len(champion.asked) == len(set(champion.asked)) == prequential.counts["prequential_lists"]
    assert len(champion.asked) / 600 == pytest.approx(share, abs=0.05)


@pytest.mark.parametrize("share", [0.7, 0.2])
@pytest.mark.parametrize("cut", [1, 7, 12])
def test_a_run_that_goes_on_from_its_bytes_ends_with_the_same_bytes(cut: int, share: float) -> None:
    examples = stream(120, delay=15)
    made = lambda: Prequential(share=share, window_s=20, labels_within_s=30, half_life=20)  # noqa: E731
    whole, first, second = made(), made(), made()
    run(whole, examples, champion=Champ())
    run(first, examples[: 10 * cut], champion=Champ())
    second.restore(first.data(), "step-1")
    run(second, examples[10 * cut :], champion=Champ(), step=cut)
    assert second.data() == whole.data()
    assert second.told() == whole.told()
    assert len(whole.told()["rows"]) >= 2


def test_closed_lists_are_scored_before_their_labels_are_learnt() -> None:
    """Popularity would know the label of its own list otherwise."""
    prequential = Prequential(share=1.0, window_s=1000)
    lists = world.impressions(5)
    examples = [example(one, labels_of(one), "closed") for one in lists]
    run(prequential, examples, batch=5)
    popularity = prequential.told()["now"]["ndcg"]["popularity"]
    labelled = [one for one in lists if any(labels_of(one))]
    flat = [ndcg_score([labels_of(one)], [[0.0] * len(one.candidates)], k=10) for one in labelled]
    assert popularity["n"] == len(labelled)
    assert popularity["mean"] == pytest.approx(np.mean(flat), abs=1e-6)


def test_labels_that_come_too_late_count_for_nothing() -> None:
    prequential = Prequential(share=1.0, window_s=10, labels_within_s=10)
    examples = stream(60, delay=30)
    last = max(place for place, one in enumerate(examples) if one.label_state == "none")
    assert sum(one.label_state == "labels" for one in examples[: last + 1]) > 15
    run(prequential, examples[: last + 1])
    assert prequential.counts["prequential_lists"] == 60
    assert prequential.counts["prequential_labelled"] == 0


def test_a_list_that_the_teacher_scored_in_part_has_no_line_of_the_teacher() -> None:
    [shown] = world.impressions(1)
    ranking = Ranking(shown, "hash", "1", "logit", (1.0, 2.0, 0.0, 0.0, 0.0, 0.0), (True, True, *(False,) * 4))
    labels = (1.0, *(0.0,) * 5)
    prequential = Prequential(share=1.0)
    run(prequential, [Example(ranking, labels, "closed")])
    assert set(prequential.told()["now"]["ndcg"]) == {"weights", "popularity", "itemknn"}


def test_one_odd_time_does_not_move_the_clock() -> None:
    lists = world.impressions(21)
    odd = Impression(id="odd", time_us=10**15, candidates=lists[0].candidates)
    examples = [example(one, None, "none") for one in [*lists[:10], odd, *lists[10:]]]
    prequential = Prequential(share=1.0, window_s=1000)
    run(prequential, examples, batch=11)
    assert len(prequential.told()["rows"]) == 1


def test_what_another_version_wrote_begins_anew(caplog: pytest.LogCaptureFixture) -> None:
    prequential = Prequential(share=1.0)
    for data in (b"noise", b"\x81\xa6format\x63"):
        run(prequential, stream(20, delay=2))
        prequential.restore(data, "step-4")
        assert prequential.told() == {"rows": [], "now": None}
    assert "step-4: prequential.msgpack was written by another version" in caplog.text
    assert "step-4: prequential.msgpack has format 99, not 1" in caplog.text
