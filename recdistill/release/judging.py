"""Judges a bundle on examples that it did not learn from, and registers it with its evidence, report and device file.

It knows nothing of how a bundle was made, of when to judge, or of how the champion is served.

Example:
    >>> judge.__name__
    'judge'
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import msgspec

from recdistill.bundle import Bundle
from recdistill.errors import BundleError, CheckpointError, DataError, PositionError, UsageError
from recdistill.judge import (
    CHAMPION,
    CONTROL,
    PINNED,
    TEACHER,
    BundleContender,
    Contender,
    Control,
    Judgement,
    Part,
    Spending,
    evaluate,
    misfits,
    write_report,
)
from recdistill.ledger import Ledger, Writer
from recdistill.linear import Asked
from recdistill.progress import Progress
from recdistill.records import Example
from recdistill.registry import Evidence, Registry, Version
from recdistill.release.champion import HEAD, as_writer
from recdistill.release.counted import cheaper
from recdistill.release.evidence import NONE, Policy, note_judged
from recdistill.release.history import history_of
from recdistill.release.lists import BEHIND, Which, lists_for
from recdistill.release.newcomers import newcomers
from recdistill.release.parts import learnt_from, stopped_at
from recdistill.release.promoting import Pinned
from recdistill.release.window import HeldOutWindow, newest_held_out
from recdistill.stream import Log, Place, read_place, write_time
from recdistill.teachers import Teacher


def judge(
    log: Log,
    bundle: Bundle,
    most: int,
    *,
    teacher: Teacher | None,
    teacher_bytes: int = 0,
    rivals: Sequence[Contender] = (),
    beside: Sequence[Bundle] = (),
    champion: Bundle | None = None,
    control: Bundle | None = None,
    no_control: str = "nobody looked for one",
    pinned: Pinned | None = None,
    until: Place | None = None,
    which: Which = "auto",
    least: int = 1,
    window: HeldOutWindow | None = None,
    learnt: int | None = None,
    ease: bool = False,
    protocol: str = "auto",
    fields: Sequence[str] = (),
    teacher_scores: int = 0,
    taught_us: int | None = None,
    cost_per_1000: float = 0.0,
    blocked: Collection[str] = (),
    rules: Collection[tuple[str, str]] = (),
    seed: int = 0,
    progress: Progress | None = None,
) -> Judgement:
    """Judges a bundle on examples that it did not learn from.

    Args:
        log: The log with the topics `held-out` and `examples`.
        bundle: The bundle.
        most: How many held-out lists are judged at most, the newest ones.
        teacher: The teacher to compare it with. None: it is not compared.
        teacher_bytes: Size of the teacher in bytes. 0: not known.
        taught_us: Time of the latest list that the teacher learnt from. None: not known.
        cost_per_1000: Cost of a thousand scores of the teacher. 0: costs are not counted.
        rivals: Other models to compare it with. Popularity and ItemKNN are always compared.
        beside: Other bundles to compare it with. The judged part begins where the last of them stopped learning.
        champion: The bundle that serves now. It is judged on the same lists. If that is impossible, a note says why.
        control: The student without a teacher. It is judged on the same lists. If that is impossible, it is left out.
        no_control: Why there is no control.
        pinned: The version that the policy names for comparison. The report shows it, and no gate looks at it.
        until: Where the judged part of `examples` ends. None: where the log ends now.
        which: Which lists: see `lists.lists_for`.
        least: How many held-out lists are enough.
        window: The window of held-out lists of a caller that judges again and again. None: it is read now.
        learnt: How many of the examples that the bundle learnt from are read, the newest ones. None: all. They are read
            only for EASE, or if the bundle has no counts beside it.
        ease: Compare with EASE too.
        protocol: `catalogue`, `shown`, or `auto`; see `recdistill.judge.evaluate`.
        fields: Fields that give more slices: `context.NAME`, `item.NAME`, `time`.
        teacher_scores: How many scores the teacher may be asked for, before pools are used. 0: there is no limit.
        blocked: Items that no answer may hold.
        rules: Attribute and value of each rule about what answers hold.
        seed: Seed of the bootstrap.
        progress: Called with the progress.

    Raises:
        DataError: There is nothing to judge on.
    """
    if window is None and which != BEHIND and until is None:
        window = newest_held_out(log, most, after_us=taught_us)
    lists, part = lists_for(
        log,
        bundle,
        most,
        which=which,
        least=least,
        beside=beside,
        until=until,
        taught_us=taught_us,
        window=window,
    )
    against, without = _beside(log, champion, CHAMPION, "the champion", part, lists)
    alone, left_out = _beside(log, control, CONTROL, "the control", part, lists)
    if not alone:
        no_control = "; ".join(left_out) or no_control
    held, no_pinned = _pinned(log, pinned, part, lists)
    came = newcomers(log, bundle)
    if teacher is not None:
        teacher.apply_items([*bundle.items, *came])
    live = [item.id for item in (*bundle.items, *came)]
    simple = cheaper(bundle, live, lambda: learnt_from(log, bundle, learnt), ease=ease)
    with tempfile.TemporaryDirectory(prefix="recdistill-") as folder:
        device, no_device = _device(bundle, Path(folder))
        judgement = evaluate(
            bundle,
            lists,
            teacher=teacher,
            rivals=[
                *against,
                *alone,
                *held,
                *(BundleContender(each, name) for each, name in zip(beside, _names(beside), strict=True)),
                *rivals,
                *simple.rivals,
            ],
            train_examples=simple.train,
            protocol=protocol,
            fields=fields,
            teacher_scores=teacher_scores,
            came=came,
            served=[] if window is None else window.served(),
            scored=[] if window is None or not against else window.scored(),
            device=device,
            blocked=blocked,
            rules=rules,
            sizes={"teacher": teacher_bytes} if teacher_bytes else None,
            seed=seed,
            progress=None if progress is None else lambda _, done, total: progress(done, total),
        )
    if judgement.control is None:
        judgement = msgspec.structs.replace(judgement, control=Control(why=no_control))
    notes = [*judgement.notes, *without, *no_pinned, *no_device, *simple.notes, *_seen(part, taught_us)]
    spending = _spending(simple.asked, judgement, cost_per_1000)
    return msgspec.structs.replace(judgement, spending=spending, part=part, notes=notes)


def _beside(
    log: Log, other: Bundle | None, name: str, called: str, part: Part, lists: Sequence[Example]
) -> tuple[list[Contender], list[str]]:
    """Another version as a contender, or a sentence that says why it cannot be compared."""
    if other is None:
        return [], []
    try:
        if part.lists == BEHIND and not _stopped_before(log, other, part):
            return [], [f"{called} has learnt from lists that are judged, so the student is not compared with it"]
        if unfit := len(misfits(other, lists)):
            return [], [f"the contexts of {unfit:,} lists do not fit {called}, so it is not compared with it"]
        return [BundleContender(other, name)], []
    except (BundleError, CheckpointError, DataError, PositionError) as e:
        return [], [f"the student is not compared with {called}: {e}"]


def _pinned(log: Log, pinned: Pinned | None, part: Part, lists: Sequence[Example]) -> tuple[list[Contender], list[str]]:
    """The pinned version as a contender, and a sentence about it."""
    if pinned is None:
        return [], []
    called = f"the pinned version {pinned.name}"
    if pinned.bundle is None:
        return [], [f"the student is not compared with {called}: {pinned.why}"]
    found, notes = _beside(log, pinned.bundle, PINNED, called, part, lists)
    return found, notes or [
        f"the line {PINNED} is version {pinned.name}, which gate.pinned names; nothing is asked of it"
    ]


def _device(bundle: Bundle, folder: Path) -> tuple[Path | None, list[str]]:
    """The device file that will ship with this bundle, or a sentence that says why there is none."""
    from recdistill.device import export_device

    try:
        export_device(bundle, folder / "device.onnx")
    except (BundleError, DataError, UsageError) as e:
        return None, [f"the device file was not judged: {e}"]
    return folder / "device.onnx", []


def _stopped_before(log: Log, other: Bundle, part: Part) -> bool:
    """Whether another bundle stopped learning before the judged part of `examples` begins."""
    begins = read_place(part.begins)
    learnt = stopped_at(log, other).by_partition()
    return all(offset <= begins.offset(tp, len(learnt)) for tp, offset in learnt.items())


def _seen(part: Part, taught_us: int | None) -> list[str]:
    """A sentence where the teacher has learnt from the lists that are judged."""
    first = read_place(part.first).time_us
    if taught_us is None or first is None or taught_us < first:
        return []
    sentence = (
        f"the teacher learnt from lists up to {write_time(taught_us)}, and lists from {part.first} on are judged: it "
        "has seen what was liked there, so its figures are too good, and a student that it taught before may be too; "
        f"teach it with `recdistill teach --replace --until {part.first}`, and score and distil again"
    )
    return [sentence]


def _names(beside: Sequence[Bundle]) -> list[str]:
    """Names of the other bundles: the name of the folder, or its path where two folders have the same name.

    The folder of a bundle from the registry has the name of its content, of which twelve digits are enough.
    """
    short = [name[:12] if (name := bundle.path.name) == bundle.content_hash else name for bundle in beside]
    return [
        f"beside {name if short.count(name) == 1 else bundle.path}" for bundle, name in zip(beside, short, strict=True)
    ]


def _spending(asked: Asked, judgement: Judgement, cost_per_1000: float) -> Spending | None:
    """What the teacher was asked to score, and how much the budget saved. None: there was no budget."""
    if not asked.budgeted:
        return None
    spared = asked.candidates - asked.scored
    teacher = judgement.quality(TEACHER)
    seconds = None
    # The judge measured the teacher's seconds for 1000 requests, over the whole catalogue or over what was shown.
    each = judgement.catalogue if judgement.protocol == "catalogue" else asked.candidates / max(1, asked.lists)
    if teacher is not None and teacher.seconds_per_1000 is not None:
        seconds = spared * teacher.seconds_per_1000 / 1000 / each
    return Spending(
        lists=asked.lists,
        lists_scored=asked.lists_scored,
        candidates=asked.candidates,
        scored=asked.scored,
        seconds=seconds,
        cost=spared * cost_per_1000 / 1000 if cost_per_1000 else None,
    )


def publish(
    registry: Registry,
    ledger: Ledger,
    bundle: Bundle,
    judgement: Judgement,
    evidence: Evidence,
    *,
    policy: Policy = NONE,
    who: str = "judge",
    promotes: bool = False,
    report: Path | None = None,
    device: Path | None = None,
    try_it: Callable[..., None] | None = None,
    gate: Callable[[Judgement], Evidence] | None = None,
) -> tuple[Version, Evidence]:
    """Registers a judged bundle with its evidence, report and device file. It becomes the candidate.

    A device file cannot hash text, so a bundle with text in its context has none.

    What the judge found is written to the ledger first, before there is a version. A version without such an entry is
    never promoted. If another judge was quicker, it has spent a part of the error of the year that the verdict does not
    know of. Then the gate is asked again, so that two judges never spend the same part.

    Args:
        registry: The registry.
        ledger: Where the judge's findings are written.
        bundle: The bundle.
        judgement: The results of the judge.
        evidence: The gate's verdict on it.
        policy: What the gate asked for.
        who: Who judged it, for the ledger.
        promotes: Whether that one promotes what passes. A version that passed and was then left is found by it.
        report: File of the report. None: it is written now, to a temporary file.
        device: Where the device file is written. None: to a temporary file.
        try_it: Tries bundle and device file in a separate process first: `try_it(bundle, device=path)`.
        gate: Gives the verdict again. Called only if another judge has written to the ledger since `evidence` was made
            with it. None: nobody else judges.

    Returns:
        The version, and the verdict that was written.

    Raises:
        BundleError: Bundle or device file does not run as it should. Nothing is registered.
    """
    from recdistill.device import export_device

    registry.check(bundle, evidence)  # nothing is written about a judgement of something else
    known = len(ledger.state.judged)  # so many judgements the verdict knows of
    with tempfile.TemporaryDirectory() as folder:
        files = [device or Path(folder) / "device.onnx"]
        if any(field.kind == "text" for field in bundle.spec.context.values()):
            files = []
        for file in files:
            export_device(bundle, file)
        if try_it is not None:
            try_it(bundle, **({"device": files[0]} if files else {}))
        page = report or Path(folder) / "report.html"

        def write_page() -> None:
            if report is None:
                numbers = {one.content_hash: one.number for one in registry.versions()}
                write_report(judgement, page, evidence, past=history_of(ledger.look(), numbers, (judgement, evidence)))

        def noted(writer: Writer) -> bool:
            mine = ledger.tried()
            if mine is not None and mine.kind == "judged":  # the log has the entry, but its answer was lost
                return True
            if gate is not None and len(ledger.state.judged) > known:
                return False
            note_judged(writer, ledger, judgement, evidence, policy=policy, who=who, promotes=promotes)
            return True

        write_page()
        ledger.forget()
        while not as_writer(ledger, noted) and gate is not None:
            known = len(ledger.state.judged)
            evidence = gate(judgement)
            write_page()
        version = registry.publish(
            bundle,
            evidence,
            report=page,
            extra_files=files,
            parameters=_parameters(bundle),
            metrics=evidence.metrics,
        )
        registry.say(version.number, "", {HEAD: ledger.head()})
        return version, evidence


def _parameters(bundle: Bundle) -> dict[str, Any]:
    recipe = bundle.manifest.provenance.get("recipe")
    flat: dict[str, Any] = {}
    if not isinstance(recipe, dict):  # others may have written it
        return flat
    for key, value in recipe.items():
        flat |= {f"{key}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {key: value}
    return flat
