"""Opens what each loop needs and runs it: here settings become parts. `endpoint` does the same for the ranker.

The command line and the processes in `services/` both start their loops here. So a verb and an image do the same.
It knows nothing of terminals or signals.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from recdistill.config import (
    DistilSettings,
    HeldOutSettings,
    JoinSettings,
    LossSettings,
    ScoreSettings,
    Settings,
    StudentSettings,
    WatchSettings,
)
from recdistill.errors import RegistryError, TeacherAway
from recdistill.features import FeatureSpec
from recdistill.installed import how_to_install
from recdistill.loops.endpoint import rank
from recdistill.loops.opened import champion_of, open_ledger, open_registry, trial_of
from recdistill.loops.patience import patiently
from recdistill.loops.teachers import open_teacher
from recdistill.loops.ticks import silence_s
from recdistill.progress import Progress, folder_bytes
from recdistill.stream import LanePosition, Log, Place, open_log
from recdistill.teachers import TAUGHT, CachedTeacher, Teacher

if TYPE_CHECKING:
    from recdistill.bundle import BundleFolder
    from recdistill.loops.announce import Announcer
    from recdistill.loops.canary import Plan
    from recdistill.loops.distil import Ahead, Publisher
    from recdistill.registry import Registry

Job = Callable[[Settings, threading.Event, bool, "Counter[str]", "Progress | None"], "Counter[str]"]

StageJob = Callable[..., "Counter[str]"]
"""A job that also takes `begin`, the place in its input where it begins."""


def score(
    settings: Settings,
    stop: threading.Event,
    drain: bool,
    counts: Counter[str],
    progress: Progress | None,
    *,
    begin: Place | None = None,
) -> Counter[str]:
    """Runs the scorer with the settings' teacher. A server that does not answer yet is waited for."""
    teacher = patiently(
        lambda: open_teacher(settings.teacher),
        settings.score.patience_s,
        stop=stop,
        waited=partial(counts.update, ("waits",)),
        only=TeacherAway,
    )
    if teacher is None:  # stopped while waiting
        return counts
    with closing(open_log(settings.log, stop.is_set)) as log:
        return score_from(
            log,
            teacher,
            settings.score,
            most_bad=(settings.bad_records.most, settings.bad_records.of),
            begin=begin,
            stop=stop,
            drain=drain,
            counts=counts,
            progress=progress,
        )


def score_from(
    log: Log,
    teacher: Teacher,
    settings: ScoreSettings,
    *,
    most_bad: tuple[int, int] = (0, 1),
    begin: Place | None = None,
    stop: threading.Event,
    drain: bool = False,
    counts: Counter[str] | None = None,
    progress: Progress | None = None,
) -> Counter[str]:
    """Runs the scorer on a log that is open; with a cache of scores where the section wants one."""
    from recdistill.loops import score as loop

    with ExitStack() as stack:
        if settings.cache_mb:
            cache = CachedTeacher(
                teacher,
                megabytes=settings.cache_mb,
                time_step_s=settings.cache_step_s,
                path=Path(settings.cache_file) if settings.cache_file else None,
                file_megabytes=settings.cache_file_mb,
            )
            stack.callback(cache.close)
            teacher = cache
        return loop.run(
            log,
            teacher,
            batch=settings.batch,
            wait_s=settings.wait_s,
            deadline_s=settings.deadline_s,
            give_up_after=settings.give_up_after,
            patience_s=settings.patience_s,
            budget=settings.budget,
            budget_by=settings.budget_by,
            again=settings.again,
            most_missing=settings.most_missing,
            cost_per_1000=settings.cost_per_1000,
            worker=settings.worker,
            workers=settings.workers,
            most_bad=most_bad,
            begin=begin,
            stop=stop,
            drain=drain,
            counts=counts,
            progress=progress,
        )


def translate(
    settings: Settings,
    stop: threading.Event,
    drain: bool,
    counts: Counter[str],
    progress: Progress | None,
    *,
    begin: Place | None = None,
) -> Counter[str]:
    """Runs the translator over the settings' topics."""
    from recdistill.loops import translators

    return translators.run(settings, stop, drain, counts, progress, begin)


def join(
    settings: Settings,
    stop: threading.Event,
    drain: bool,
    counts: Counter[str],
    progress: Progress | None,
    *,
    begin: Place | None = None,
    flush: bool = False,
) -> Counter[str]:
    """Runs the joiner; with `flush` it closes every list at the end."""
    tick_s = silence_s(settings.join.tick_s, settings.distil.learn_within_s)
    with closing(open_log(settings.log, stop.is_set)) as log:
        return join_from(
            log,
            replace(settings.join, tick_s=tick_s),
            settings.held_out,
            most_bad=(settings.bad_records.most, settings.bad_records.of),
            begin=begin,
            stop=stop,
            drain=drain,
            flush=flush,
            counts=counts,
            progress=progress,
        )


def join_from(
    log: Log,
    settings: JoinSettings,
    held_out: HeldOutSettings,
    *,
    most_bad: tuple[int, int] = (0, 1),
    begin: Place | None = None,
    stop: threading.Event,
    drain: bool = False,
    flush: bool = False,
    counts: Counter[str] | None = None,
    progress: Progress | None = None,
) -> Counter[str]:
    """Runs the joiner on a log that is open; see `loops.join.run`."""
    from recdistill.loops import join as loop

    return loop.run(
        log,
        window_s=settings.window_s,
        max_ahead_s=settings.max_ahead_s,
        labels=settings.labels,
        soft=settings.soft,
        tick_s=settings.tick_s,
        held_out=(held_out.least, held_out.most, held_out.per_day),
        directory=Path(settings.directory) if settings.directory else None,
        snapshot_s=settings.snapshot_s,
        batch=settings.batch,
        wait_s=settings.wait_s,
        idle_s=settings.idle_s,
        most_bad=most_bad,
        begin=begin,
        stop=stop,
        drain=drain,
        flush=flush,
        counts=counts,
        progress=progress,
    )


def distil(
    settings: Settings,
    stop: threading.Event,
    drain: bool,
    counts: Counter[str],
    progress: Progress | None,
    *,
    until: LanePosition | None = None,
    begin: Place | None = None,
    warm: Path | None = None,
) -> Counter[str]:
    """Runs the distiller with the settings' feature specification; its bundles go to the registry's store."""
    from recdistill.loops.control import as_control
    from recdistill.loops.trainers import ahead_of

    if control := settings.distil.control:
        settings = as_control(settings)
    spec = FeatureSpec.load(Path(settings.features.file))
    with closing(open_log(settings.log, stop.is_set)) as log, ExitStack() as stack:
        run = partial(
            distil_from,
            log,
            spec,
            settings.student,
            settings.loss,
            settings.distil,
            settings.watch,
            begin=begin,
            warm=warm,
            stop=stop,
            drain=drain,
            until=until,
            counts=counts,
            progress=progress,
        )
        champion = partial(champion_of, settings) if settings.distil.publish else None
        run = partial(run, ahead=ahead_of(settings.prequential, champion, settings.registry.uri))
        if not settings.distil.publish:
            return run()
        announcer = announcer_of(settings, log, counts, silent=control)
        stack.callback(announcer.close)
        return run(publish=announcer)


def announcer_of(
    settings: Settings, log: Log, counts: Counter[str] | None = None, *, silent: bool = False
) -> Announcer:
    """What sends a distiller's bundles to the settings' registry. The registry is opened for the first bundle.

    Args:
        settings: Everything.
        log: Where they are announced.
        counts: Counts to add to.
        silent: Only send, announce nothing.

    Raises:
        RegistryError: mlflow is not installed.
        StreamError: The log has no topic `bundles`.
    """
    from recdistill.loops.announce import Announcer

    if find_spec("mlflow") is None:  # better now than after hours of training
        raise RegistryError(
            f"bundles go to the registry, and mlflow is not installed; type: {how_to_install('registry')}, "
            "or leave them in their folder: distil.publish = false"
        )
    opened: list[Registry] = []

    def registry() -> Registry:
        if not opened:
            opened.append(open_registry(settings))
        return opened[0]

    def put(bundle: BundleFolder) -> int:
        return registry().put(bundle)

    # Nobody announces a control. Its store alone says that there is one, so it is made before the first bundle.
    place = (lambda: registry().make_store()) if silent else None
    return Announcer(log, put, counts, silent=silent, place=place)


def distil_from(
    log: Log,
    spec: FeatureSpec,
    student: StudentSettings,
    loss: LossSettings,
    settings: DistilSettings,
    watch: WatchSettings | None = None,
    *,
    begin: Place | None = None,
    warm: Path | None = None,
    stop: threading.Event,
    drain: bool = False,
    until: LanePosition | None = None,
    counts: Counter[str] | None = None,
    progress: Progress | None = None,
    publish: Publisher | None = None,
    ahead: Ahead | None = None,
) -> Counter[str]:
    """Runs the distiller on a log that is open; the arguments are the sections, see `loops.distil.run`."""
    from recdistill.loops import distil as loop
    from recdistill.loops.trainers import made_of, sections

    given = sections(student, loss, settings, WatchSettings() if watch is None else watch)
    trainer, recipe = made_of(spec, given)
    return loop.run(
        log,
        trainer,
        Path(settings.directory),
        recipe,
        checkpoint_every=settings.checkpoint_every,
        exports=loop.ExportPlan(
            steps=settings.export_every,
            examples=settings.export_every_examples,
            seconds=settings.export_every_s,
            drift=settings.export_on_drift,
            popular=settings.popular,
            beside=settings.export_beside,
            nice=settings.export_nice,
        ),
        keep=settings.keep,
        memory_mb=settings.memory_mb,
        wait_s=settings.wait_s,
        begin=begin,
        warm=warm,
        stop=stop,
        drain=drain,
        until=until,
        counts=counts,
        progress=progress,
        publish=publish,
        settings=given,
        remake=partial(made_of, spec),
        ahead=ahead,
    )


def probe(
    settings: Settings,
    stop: threading.Event,
    drain: bool,
    counts: Counter[str],
    progress: Progress | None,
    *,
    begin: Place | None = None,
) -> Counter[str]:
    """Runs the prober with the registry's champion."""
    from recdistill.loops import probe as loop

    chosen = settings.probe
    with closing(open_log(settings.log, stop.is_set)) as log:
        return loop.run(
            log,
            champion_of(settings),
            share=chosen.share,
            k=chosen.k,
            per_s=chosen.per_s,
            batch=chosen.batch,
            wait_s=chosen.wait_s,
            follow_s=chosen.follow_s,
            try_it=trial_of(settings),
            begin=begin,
            stop=stop,
            drain=drain,
            counts=counts,
            progress=progress,
        )


def promote(
    settings: Settings, stop: threading.Event, drain: bool, counts: Counter[str], progress: Progress | None
) -> Counter[str]:
    """Runs the promoter over the bundles that distillers announce.

    A `logged` teacher cannot score a whole catalogue, so the judge holds the student against it on its lists alone.
    """
    from recdistill import release
    from recdistill.judge import Asked, gate
    from recdistill.loops import promote as loop
    from recdistill.loops.control import controls_of
    from recdistill.loops.teach import taught_us
    from recdistill.loops.tell import Tell, Teller, nobody
    from recdistill.loops.trainers import held_ahead_of
    from recdistill.loops.trim import Clock, trimmed

    asked = Asked.by(settings.gate)
    registry = open_registry(settings)
    teacher: Teacher | None = None if settings.teacher.kind == "logged" else open_teacher(settings.teacher)
    with ExitStack() as stack:
        log = stack.enter_context(closing(open_log(settings.log, stop.is_set)))
        ledger = open_ledger(settings, log)
        tell: Tell = nobody
        if settings.tell.webhook and not drain:
            chosen = settings.tell
            teller = Teller(chosen.webhook, chosen.on, timeout_s=chosen.timeout_s, tries=chosen.tries, counts=counts)
            stack.callback(teller.close)
            tell = teller
        trim = partial(trimmed, log, settings.topics.keep_days, tell, clock_us=Clock())
        return loop.run(
            log,
            registry,
            gate=lambda judgement: gate(judgement, asked, release.tries_so_far(registry, ledger)),
            ledger=ledger,
            policy=release.policy_of(asked),
            by_hand=settings.registry.by_hand,
            blocked=asked.blocked,
            rules=[(rule.attribute, rule.value) for rule in asked.rules],
            min_lists=settings.gate.min_lists,
            held_out=settings.promote.held_out,
            which=settings.judge.lists,
            learnt=settings.judge.learnt,
            ease=settings.judge.ease or "ease" in settings.gate.beats,
            pinned=settings.gate.pinned,
            by=settings.promote.by,
            automatic=settings.promote.automatic,
            keep=settings.registry.keep,
            wait_s=settings.promote.wait_s,
            patience_s=settings.promote.patience_s,
            again_lists=settings.promote.again_lists,
            again_s=settings.promote.again_s,
            again_most=settings.promote.again_most,
            tell=tell,
            trim=trim if settings.topics.trim_every_s else None,
            trim_every_s=settings.topics.trim_every_s,
            try_it=trial_of(settings),
            canary=canary_of(settings),
            controls=controls_of(settings, trial_of(settings)),
            teacher=teacher,
            teacher_bytes=folder_bytes(Path(settings.teacher.path)) if settings.teacher.kind in TAUGHT else 0,
            cost_per_1000=settings.score.cost_per_1000,
            protocol=settings.judge.protocol,
            fields=settings.judge.slices,
            teacher_scores=settings.judge.teacher_scores,
            taught_us=taught_us(Path(settings.teacher.path)) if settings.teacher.kind in TAUGHT else None,
            ahead=held_ahead_of(settings.prequential, champion_of(settings)),
            stop=stop,
            drain=drain,
            counts=counts,
            progress=progress,
        )


def canary_of(settings: Settings) -> Plan | None:
    """How a version that passed the gate is tried on a share of the users; None: it is not."""
    from recdistill.loops.canary import Plan

    chosen = settings.canary
    if not chosen.share:
        return None
    return Plan(
        share=chosen.share,
        alpha=chosen.alpha,
        margin=chosen.margin,
        most_users=chosen.most_users,
        automatic=chosen.automatic,
    )


JOBS: dict[str, Job] = {
    "scorer": score,
    "joiner": join,
    "distiller": distil,
    "promoter": promote,
    "ranker": rank,
    "prober": probe,
    "translator": translate,
}
"""Each process of the house by its name."""

STAGES: dict[str, StageJob] = {
    "scorer": score,
    "joiner": join,
    "distiller": distil,
    "prober": probe,
    "translator": translate,
}
"""Those that can be told where to begin."""
