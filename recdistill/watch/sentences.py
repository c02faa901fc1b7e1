"""The sentences of the watch, one for each change. Logs and reports show them.

It knows nothing of how a change was found.

Example:
    >>> standing("t@1", new=False, why="its order is random")
    'teacher t@1 is quarantined: its order is random'
"""

from __future__ import annotations

from recdistill.watch.trial import Window


def standing(teacher: str, *, new: bool, why: str, in_name_only: bool = False) -> str:
    """The state of a teacher that is not believed, and why."""
    if in_name_only:
        return f"teacher {teacher} {'is new' if new else 'may have changed'}: {why} (watch.act is notice)"
    return f"teacher {teacher} is {_state(new)}: {why}"


def accused(teacher: str, *, new: bool, since: int, why: str, in_name_only: bool) -> str:
    """Since when the student does not learn from a teacher, or what was only noticed."""
    if not in_name_only:
        return f"teacher {teacher} is {_state(new)}, from list {since} on: {why}"
    seen = "is new" if new else "may have changed"
    return f"teacher {teacher} {seen}, from list {since} on: {why}; it is still learnt from (watch.act is notice)"


def came_new(lists: int) -> str:
    """Why a teacher is on probation."""
    return f"it came new, and is compared over {lists} lists"


def failed(window: Window) -> str:
    """Why a teacher's probation ends in quarantine."""
    return f"over {window.lists} lists it {_agreement(window)}, too little beside the teachers before it"


def passed(teacher: str, since: int, window: Window, itself: float | None = None) -> str:
    """Since when a teacher is believed, again or for the first time.

    Args:
        teacher: Its name.
        since: Number of the list.
        window: Its trial.
        itself: How well it agrees with its own first answers; None: nobody asked.
    """
    asked = "" if itself is None else f"; asked again, it agrees with its own first answers at {itself:.2f}"
    over = f"over {window.lists} lists it {_agreement(window)}{asked}"
    return f"teacher {teacher} is learnt from, from list {since} on: {over}"


def jumped(what: str, teacher: str, at: int, why: str, *, followed: bool) -> str:
    """A jump that is only reported, and what it means for the student."""
    meaning = (
        "watch.comparable is scale, so the student learns them as they are"
        if followed
        else "its lists are standardised, so the student goes on as before"
    )
    return f"the {what} of teacher {teacher} jumped by list {at}: {why}; {meaning}"


def _state(new: bool) -> str:
    return "on probation" if new else "quarantined"


def _agreement(window: Window) -> str:
    return f"agreed with the student at {window.order.mean:.2f} and with labels in {window.labels.mean:.0%} of pairs"
