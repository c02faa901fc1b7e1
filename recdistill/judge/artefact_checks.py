"""The gate's checks of what ships: parity, bytes, the device file, processor time, age, and what answers hold.

It knows nothing of held-out labels or of bounds of means.

Example:
    >>> Found
    tuple[str, typing.Literal['passed', 'refused', 'more'], str]
"""

from __future__ import annotations

from recdistill.judge.bounds import Verdict
from recdistill.judge.judgement import STUDENT, TEACHER, Judgement
from recdistill.judge.policy import Asked

Found = tuple[str, Verdict, str]


def artefact(judgement: Judgement, asked: Asked) -> list[Found]:
    """Every check of what ships that the policy asks for."""
    found = [_parity(judgement, asked), *_sizes(judgement, asked)]
    if asked.device:
        found.append(_device(judgement, asked))
    if asked.processor_ms:
        found.append(_processor(judgement, asked))
    if asked.fresh_s:
        found.append(_fresh(judgement, asked))
    if asked.blocked:
        found.append(_blocked(judgement, asked))
    return [*found, *_rules(judgement, asked)]


def _verdict(passed: bool) -> Verdict:
    return "passed" if passed else "refused"


def _parity(judgement: Judgement, asked: Asked) -> Found:
    if not judgement.parity:
        nothing = "parity: the bundle has no golden answers, so nothing shows that it was exported right"
        return ("parity", "refused", nothing)
    # A NaN counts as the largest difference. No limit holds for it, so the check refuses.
    where, worst = max(judgement.parity.items(), key=lambda pair: (pair[1] != pair[1], pair[1]))
    text = f"parity: largest difference {worst:.1e} ({where}), at most {asked.parity:.1e} is allowed"
    return ("parity", _verdict(worst <= asked.parity), text)


def _sizes(judgement: Judgement, asked: Asked) -> list[Found]:
    found: list[Found] = []
    student, teacher = judgement.sizes.get(STUDENT), judgement.sizes.get(TEACHER)
    if asked.size_ratio:
        text = "size: the teacher's size is not known, and gate.size_ratio sets a limit; set it to 0 to ask for nothing"
        ratio = None
        if teacher and student is not None:
            ratio = student / teacher
            text = (
                f"size: {student:,} bytes against the teacher's {teacher:,}, a share of {ratio:.3f}, "
                f"at most {asked.size_ratio:.3f} is allowed"
            )
        found.append(("size", _verdict(ratio is not None and ratio <= asked.size_ratio), text))
    if asked.most_bytes:
        size = None if judgement.shipped is None else judgement.shipped.bytes
        text = f"bytes: the size of the device file is not known, and gate.most_bytes allows {asked.most_bytes:,}"
        if size is not None:
            text = f"bytes: the device file has {size:,} bytes, at most {asked.most_bytes:,} are allowed"
        found.append(("bytes", _verdict(size is not None and size <= asked.most_bytes), text))
    return found


def _device(judgement: Judgement, asked: Asked) -> Found:
    shipped = judgement.shipped
    if shipped is None:
        why = "device: the device file was not judged; gate.device = 0 asks for nothing; not enough evidence yet"
        return ("device", "more", why)
    if not shipped.finite:
        return ("device", "refused", "device: the device file gave scores that are no numbers")
    kept = shipped.kept
    text = (
        f"device: the first ten of the device file keep {kept.mean:.3f} of the bundle's scores above drawn items, over "
        f"{shipped.lists:,} requests (95% interval {kept.low:.3f} to {kept.high:.3f}), at least {asked.device:.3f} is "
        f"asked; they have {shipped.overlap.mean:.3f} of its items"
    )
    return ("device", _verdict(kept.low >= asked.device), text)


def _processor(judgement: Judgement, asked: Asked) -> Found:
    spent = judgement.latency.processor_ms
    if spent is None:
        return ("processor", "refused", "processor: the processor time of an answer was not measured")
    text = (
        f"processor: an answer takes {spent:.3f} ms of processor time at one thread, at most {asked.processor_ms:.3f} "
        "is allowed"
    )
    return ("processor", _verdict(spent <= asked.processor_ms), text)


def _fresh(judgement: Judgement, asked: Asked) -> Found:
    age_s = judgement.age_s
    if age_s is None:
        return ("fresh", "refused", "fresh: the bundle does not say how new the newest event is that it learnt from")
    text = (
        f"fresh: the newest event that the student learnt from is {age_s:,.0f} s older than the newest judged list, at "
        f"most {asked.fresh_s:,.0f} s are allowed"
    )
    return ("fresh", _verdict(age_s <= asked.fresh_s), text)


def _blocked(judgement: Judgement, asked: Asked) -> Found:
    answers = judgement.answers
    if answers is None:
        return ("blocked", "more", "blocked: the answers were not looked at; judge again; not enough evidence yet")
    there = {item: answers.blocked[item] for item in asked.blocked if answers.blocked.get(item)}
    if there:
        told = ", ".join(f"{item} in {count:,}" for item, count in there.items())
        text = f"blocked: items that gate.blocked names are in the first ten, of {answers.lists:,} answers: {told}"
        return ("blocked", "refused", text)
    return (
        "blocked",
        "passed",
        f"blocked: none of {len(asked.blocked):,} blocked items is in {answers.lists:,} answers",
    )


def _rules(judgement: Judgement, asked: Asked) -> list[Found]:
    answers = judgement.answers
    shares = {} if answers is None else {(one.attribute, one.value): one.share for one in answers.rules}
    found: list[Found] = []
    for rule in asked.rules:
        name = f"rule {rule.attribute}={rule.value}"
        have = shares.get((rule.attribute, rule.value))
        if have is None or answers is None:
            found.append(
                (name, "more", f"{name}: the answers were not looked at; judge again; not enough evidence yet")
            )
            continue
        text = (
            f"{name}: a share of {have:.3f} of the first ten items has it, over {answers.lists:,} answers; from "
            f"{rule.least:.3f} to {rule.most:.3f} is allowed"
        )
        found.append((name, _verdict(rule.least <= have <= rule.most), text))
    return found
