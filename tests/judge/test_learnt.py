"""What was learnt, from examples and from counts: the same where nothing has faded and no list came before its time."""

from __future__ import annotations

from recdistill.judge.learnt import learnt
from recdistill.linear import Tally
from recdistill.records import Candidate, Example, Impression, Ranking


def example(n: int, items: str, liked: str) -> Example:
    asked = Impression(f"r{n}", n, user=f"u{n}", candidates=tuple(Candidate(item) for item in items))
    none = (0.0,) * len(items)
    return Example(
        Ranking(asked, "t", "1", "logit", none, (False,) * len(items)),
        tuple(float(item in liked) for item in items),
        "closed",
    )


def test_counts_and_examples_say_the_same() -> None:
    train = [example(n, "abcd", "ab"[n % 2]) for n in range(1, 8)] + [example(8, "abcd", "cd")]
    tally = Tally()
    tally.learn([([], [c for c in "abcd" if one.labels["abcd".index(c)]]) for one in train])
    judged = [example(20, "abcd", "a"), example(30, "cba", "c"), example(40, "az", "z")]
    lists = [
        (one.ranking.impression.time_us, [candidate.item for candidate in one.ranking.impression.candidates])
        for one in judged
    ]
    by_examples, by_counts = learnt(train), learnt(tally)
    assert by_examples.liked("abcdz").tolist() == by_counts.liked("abcdz").tolist() == [3, 4, 1, 1, 0]
    one, other = (each.up_to(lists, judged)["popularity"] for each in (by_examples, by_counts))
    assert [each.tolist() for each in one] == [each.tolist() for each in other] == [[3, 4, 1, 1], [1, 4, 4], [4, 0]]
    # Of the examples the newest tenth of the likes is recent; the counts let all of these eight lists count.
    assert [each.tolist() for each in by_counts.up_to(lists, judged)["popularity_recent"]] == [
        [3, 4, 1, 1], [1, 4, 4], [4, 0],
    ]  # fmt: skip
