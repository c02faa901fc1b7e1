"""Golden requests: what is kept of the stream's, and what is drawn."""

from support import world

from recdistill.bundle import golden

ASKED = world.impressions(60)
POPULAR = [(f"item-{n}", float(20 - n)) for n in range(20)]


def test_when_and_how_are_kept_and_what_is_drawn() -> None:
    made = golden.anonymous(ASKED, POPULAR, seed=1)
    for one, request in zip(ASKED, made, strict=True):
        assert [(e.time_us, e.action) for e in request.history] == [(e.time_us, e.action) for e in one.history]
        assert len({e.item for e in request.history}) == len(request.history)
        assert (request.context, request.time_us) == (one.context, one.time_us)
        assert (request.user, request.candidates, request.exclude, request.served_by) == (None, (), (), "")
    assert made == golden.anonymous(ASKED, POPULAR, seed=1) != golden.anonymous(ASKED, POPULAR, seed=2)
    drawn = [event.item for request in made for event in request.history]
    assert drawn.count("item-0") > drawn.count("item-19")


def test_a_history_is_cut_to_what_there_is_to_draw() -> None:
    for popular in ([], POPULAR[:2]):
        for one, request in zip(ASKED, golden.anonymous(ASKED, popular, seed=1), strict=True):
            assert len(request.history) == min(len(one.history), len(popular))
