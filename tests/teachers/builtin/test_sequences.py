"""Timelines hold each question with exactly the history that the product had, and windows hold each question."""

from __future__ import annotations

import numpy as np

from recdistill.features import Catalogue, FeatureSpec, Field, HistorySpec, Vocabulary
from recdistill.records import Candidate, Event, Example, Impression, Item, Ranking
from recdistill.teachers.builtin.sequences import LABELLED, Timelines, batches, cut, known_events, timelines, windows

SPEC = FeatureSpec(history=HistorySpec(length=8, actions=("a", "b")), context={"hour": Field("number")})
NAMES = [f"n{n}" for n in range(30)]


def catalogue() -> Catalogue:
    made = Catalogue(SPEC, Vocabulary(SPEC))
    for name in NAMES:
        made.apply(Item(name), admit=True)
    return made


def world(seed: int, users: int = 6, steps: int = 40) -> list[Example]:
    """Users that act, and are asked after some acts; some histories miss an event that became known late."""
    random = np.random.default_rng(seed)
    lists = []
    for user in range(users):
        past: list[Event] = []
        for step in range(int(random.integers(1, steps))):
            now = 1_000_000 * (user + 1) + 1000 * step
            if random.random() < 0.6:
                seen = past[:-1] if random.random() < 0.15 else past
                names = [NAMES[n] for n in random.choice(len(NAMES), 4, replace=False)]
                one = Impression(
                    f"{user}-{step}",
                    now,
                    user=None if user == 0 else f"u{user}",
                    history=tuple(seen[-SPEC.history.length :]),
                    context={"hour": float(step)},
                    candidates=tuple(Candidate(name) for name in names),
                )
                labels = tuple(float(x) for x in random.integers(0, 3, 4))
                lists.append(Example(Ranking(one, "", "", "rank", (0.0,) * 4, (False,) * 4), labels, "closed"))
            past.append(Event(NAMES[int(random.integers(len(NAMES)))], now + 500, "ab"[step % 2]))
    random.shuffle(lists)
    return lists


def histories(lines: Timelines) -> list[tuple[int, list[tuple[int, int, int]], int, int]]:
    """Of each labelled question: its time, the events before it, what was chosen, the row of its context."""
    found = []
    for line in range(len(lines.first_T1) - 1):
        begin = lines.first_T1[line]
        for q in range(*lines.first_question_T1[line : line + 2]):
            if lines.question_origin_M[q] == LABELLED:
                own = range(
                    max(begin, begin + lines.question_at_M[q] - SPEC.history.length), begin + lines.question_at_M[q]
                )
                events = [(lines.slots_E[e], lines.times_us_E[e], lines.actions_E[e]) for e in own]
                found.append(
                    (lines.question_time_us_M[q], events, lines.question_slot_M[q], lines.question_context_M[q])
                )
    return found


def test_each_positive_label_is_a_question_with_its_own_history() -> None:
    for seed in range(8):
        items, lists = catalogue(), world(seed)
        lines = timelines(SPEC, items, lists)
        expected = sorted(
            (one.ranking.impression.time_us, known_events(SPEC, items, one.ranking.impression), items.slot(c.item))
            for one in lists
            for c, label in zip(one.ranking.impression.candidates, one.labels, strict=True)
            if label > 0
        )
        got = histories(lines)
        assert sorted((time, events, slot) for time, events, slot, _ in got) == expected
        hours = {one.ranking.impression.time_us: one.ranking.impression.context["hour"] for one in lists}
        assert [lines.context["hour"][row, 0] for *_, row in got] == [min(hours[time], 5.0) for time, *_ in got]
        assert lines.lists == sum(max(one.labels) > 0 for one in lists)


def test_histories_that_overlap_are_kept_once() -> None:
    lists = [one for one in world(3) if one.ranking.impression.user]
    lines = timelines(SPEC, catalogue(), lists)
    assert len(lines.slots_E) < 0.5 * sum(len(one.ranking.impression.history) for one in lists)


def test_an_event_that_no_list_explains_is_a_question_without_context() -> None:
    lines = timelines(SPEC, catalogue(), world(1))
    for line in range(len(lines.first_T1) - 1):
        begin, end = lines.first_T1[line : line + 2]
        questions = range(*lines.first_question_T1[line : line + 2])
        chosen = {lines.question_slot_M[q] for q in questions if lines.question_origin_M[q] == LABELLED}
        free = [q for q in questions if lines.question_origin_M[q] != LABELLED]
        got = [(lines.question_at_M[q], lines.question_slot_M[q], lines.question_origin_M[q] - 1) for q in free]
        events = [(e - begin, lines.slots_E[e], lines.actions_E[e]) for e in range(begin, end)]
        assert got == [event for event in events if event[1] not in chosen]
        assert not any(lines.question_context_M[q] for q in free)


def test_a_pass_holds_every_question_with_the_events_before_it() -> None:
    random = np.random.default_rng(0)
    lines = timelines(SPEC, catalogue(), world(2, steps=80))
    for _ in range(5):
        met = np.zeros(len(lines.question_at_M), int)
        for cuts in batches(cut(lines, SPEC.history.length, random), 3, random):
            made, question_BQ = windows(lines, cuts, 1000, random)
            for row in range(len(cuts)):
                assert made.slots_BL[row].tolist() == lines.slots_E[cuts[row, 0] : cuts[row, 1]].tolist() + [-1] * (
                    made.slots_BL.shape[1] - (cuts[row, 1] - cuts[row, 0])
                )
                for column in np.flatnonzero(question_BQ[row] >= 0):
                    question = question_BQ[row, column]
                    met[question] += 1
                    line = np.searchsorted(lines.first_question_T1, question, side="right") - 1
                    end = lines.first_T1[line] + lines.question_at_M[question]
                    assert cuts[row, 0] + made.at_BQ[row, column] == end
                    assert made.at_BQ[row, column] > 0 or lines.question_at_M[question] == 0
                    assert made.asked_us_BQ[row, column] == lines.question_time_us_M[question]
        assert met.min() >= 1
        assert met.max() <= 3


def test_a_window_of_too_many_questions_keeps_some() -> None:
    one = Impression("i", 9, user="u", history=(Event("n1", 1),), candidates=(Candidate("n2"), Candidate("n3")))
    many = [Example(Ranking(one, "", "", "rank", (0.0, 0.0), (False, False)), (1.0, 1.0))] * 20
    lines = timelines(SPEC, catalogue(), many)
    random = np.random.default_rng(0)
    made, question_BQ = windows(lines, cut(lines, 8, random), 5, random)
    assert question_BQ.shape == (1, 5)
    assert len(set(question_BQ[0].tolist())) == 5
    assert (made.at_BQ >= 0).all()


def test_nobody_has_a_history() -> None:
    bare = Impression("i", 9, candidates=(Candidate("n2"),))
    lines = timelines(SPEC, catalogue(), [Example(Ranking(bare, "", "", "rank", (0.0,), (False,)), (1.0,))])
    random = np.random.default_rng(0)
    made, _ = windows(lines, cut(lines, 8, random), 5, random)
    assert made.slots_BL.tolist() == [[-1]]
    assert made.at_BQ.tolist() == [[0]]
