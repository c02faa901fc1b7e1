"""What a person sees of a record."""

from recdistill.records import Candidate, Event, Example, Feedback, Impression, Item, Ranking, render

DAY = 86_400_000_000


def ranking() -> Ranking:
    impression = Impression(
        "imp-1",
        3 * DAY,
        "u1",
        tuple(Event(f"i{index}", DAY + index, "view") for index in range(9)),
        {"device": "phone", "tags": ["a", "b"], "ok": True},
        tuple(Candidate(f"c{index}") for index in range(14)),
        ("gone",),
    )
    scores = tuple(float(index % 7) for index in range(14))
    return Ranking(impression, "bst", "3", "logit", scores, (True,) * 13 + (False,), 3 * DAY, 12)


def test_candidates_are_best_first_and_a_missing_score_says_so() -> None:
    labels = tuple(float(index == 6) for index in range(14))
    lines = render(Example(ranking(), labels, "closed"), now_us=4 * DAY).split("\n")
    table = [line for line in lines if "'c" in line]
    assert [line.split()[1] for line in table[:3]] == ["'c6'", "'c5'", "'c12'"]
    assert len(table) == 10
    assert lines[-1] == "    … 4 more"
    assert table[0].endswith("label 1")
    assert any("(1 d ago)" in line for line in lines)
    assert lines[0] == "example  labels known"
    few = Ranking(
        Impression("r", 0, candidates=(Candidate("a"), Candidate("b"))), "t", "1", "rank", (9.0, 0.0), (False, True)
    )
    assert [line.split()[1] for line in render(few).split("\n") if line.startswith("     ")] == ["'b'", "'a'"]
    assert "missing" in render(few)


def test_a_list_under_a_budget_says_with_which_probability_it_was_scored() -> None:
    impression = Impression("r", 0, candidates=(Candidate("a"), Candidate("b")))
    none = Ranking(impression, "t", "1", "rank", (0.0, 0.0), (False, False), sampled=0.25)
    assert "scored     0 of 2, catalogue as of 0, put to the teacher with probability 0.25" in render(none)
    part = Ranking(impression, "t", "1", "rank", (1.0, 0.0), (True, False), candidates_sampled=(1.0, 0.125))
    assert "scored     1 of 2, catalogue as of 0, each candidate with 0.125 or more" in render(part)
    assert "probability" not in render(part)


def test_history_is_newest_first_and_cut() -> None:
    text = render(ranking().impression)
    assert text.index("'i8'") < text.index("'i7'")
    assert "'i3'" not in text
    assert "… 4 more" in text
    assert "2 d before" in text


def test_nothing_in_a_record_steers_the_terminal() -> None:
    evil = "\x1b[2Jx\ny"
    records = [
        Item(evil, attributes={evil: evil, "l": [evil]}),
        Impression(evil, 1, evil, (Event(evil, 1, evil),), {evil: evil}, (Candidate(evil),), ("z",), "sweep", evil),
        Feedback(evil, evil, evil, evil),
        Ranking(Impression(evil, 1, candidates=(Candidate(evil),)), evil, evil, "rank", (1.0,), (True,)),
    ]
    for record in records:
        text = render(record, now_us=5)
        assert all(line.isprintable() for line in text.split("\n"))
        assert not any(line == "y" for line in text.split("\n"))


def test_lines_are_cut_to_the_width() -> None:
    text = render(Item("x" * 300, attributes={"t": "y" * 300}), width=40)
    assert [len(line) for line in text.split("\n")] == [40, 40]
    assert text.split("\n")[0].endswith("…")
