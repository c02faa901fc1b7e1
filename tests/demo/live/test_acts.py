"""Acts: one at a time, by hand or from the story."""

from __future__ import annotations

from collections.abc import Callable

from recdistill.demo.live.acts import STORY, Acts


class Bell:
    """An act that is over when somebody says so."""

    def __init__(self) -> None:
        self.begun = 0
        self.quiet = False

    def __call__(self) -> tuple[str, Callable[[], str | None]]:
        self.begun += 1
        return "It rings.", lambda: "It is quiet." if self.quiet else None


def said(acts: Acts) -> list[tuple[float, str, str]]:
    return [(one["at_s"], one["act"], one["said"]) for one in acts.told]


def test_a_second_act_waits_for_the_first() -> None:
    bell, door = Bell(), Bell()
    acts = Acts({"bell": bell, "door": door})
    assert acts.ask("bell")
    assert acts.ask("door")
    acts.step(1.0)
    acts.step(2.0)
    assert (bell.begun, door.begun, acts.running) == (1, 0, "bell")
    bell.quiet = True
    acts.step(3.0)
    assert acts.running is None
    acts.step(4.0)
    assert said(acts) == [(1.0, "bell", "It rings."), (3.0, "bell", "It is quiet."), (4.0, "door", "It rings.")]


def test_the_story_comes_at_its_times_and_in_their_order() -> None:
    one, two = Bell(), Bell()
    one.quiet = two.quiet = True
    acts = Acts({"one": one, "two": two}, story=[("two", 8.0), ("one", 5.0)])
    for now in range(12):
        acts.step(float(now))
    assert [(at, name) for at, name, words in said(acts) if words == "It rings."] == [(5.0, "one"), (8.0, "two")]


def test_the_story_waits_until_it_may_go_on() -> None:
    bell, ready = Bell(), False
    acts = Acts({"bell": bell}, story=[("bell", 5.0)], ready=lambda: ready)
    acts.step(6.0)
    assert bell.begun == 0
    ready = True
    acts.step(7.0)
    assert bell.begun == 1


def test_it_knows_what_is_still_to_come() -> None:
    bell = Bell()
    acts = Acts({"bell": bell}, story=[("bell", 5.0)])
    assert acts.ask("bell")
    assert acts.waiting == 2
    acts.step(1.0)
    assert (acts.waiting, acts.running) == (1, "bell")


def test_what_is_not_there_or_too_much_is_refused() -> None:
    acts = Acts({"bell": Bell()})
    assert not acts.ask("window")
    assert [acts.ask("bell") for _ in range(21)] == [True] * 20 + [False]


def test_the_story_of_the_demo_ends_before_the_stream_does() -> None:
    assert all(0 < share < 0.9 for _, share in STORY)
