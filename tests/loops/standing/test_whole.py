"""What is told of where everything stands: ages are those of the moment at which something was read."""

from __future__ import annotations

from recdistill.loops.standing.stages import Backlog
from recdistill.loops.standing.student import StudentAt
from recdistill.loops.standing.whole import Standing, lines, plain

S = 1_000_000


def test_what_waits_has_the_age_of_the_moment_when_the_log_was_read() -> None:
    """A registry may take half a minute to answer. Meanwhile the record was scored long ago."""
    waits = Backlog(stage="score", topic="impressions", behind=1, waits_since_us=100 * S, read_us=101 * S)
    told = Standing(now_us=130 * S, log="log.sqlite", backlog=[waits])
    assert plain(told)["backlog"][0]["waits_s"] == 1.0
    assert "score 1 for 1.0 s" in list(lines(told))[1]


def test_only_the_student_of_the_settings_is_called_distil() -> None:
    """Of a distiller only its newest checkpoint is known here: it has learnt more since."""
    student = StudentAt(directory="student", works=True, owner="process 7", step=None, name="ours")
    both = [Backlog(stage=f"distil-{name}", topic="examples", behind=5) for name in ("ours", "theirs")]
    [_, line, *_] = lines(Standing(now_us=1, log="log.sqlite", student=student, backlog=both))
    assert line == "backlog         distil 5 since its checkpoint · distil-theirs 5 since its checkpoint"


def test_a_share_of_labels_that_must_be_whole_is_not_told() -> None:
    """With `join.soft = "at_once"` a list that nobody took from makes no example of labels."""
    for rate, told in ((0.213, True), (1.0, False)):
        seen = {"outcomes": {"rate": rate, "places": 0.1}}
        student = StudentAt(directory="student", works=True, owner="process 7", step=None, drift=seen)
        text = "\n".join(lines(Standing(now_us=1, log="log.sqlite", student=student)))
        assert "places 0.10" in text
        assert ("lists with a label" in text) is told
