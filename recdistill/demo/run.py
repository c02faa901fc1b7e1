"""Runs the whole product in one terminal: the real loops, on an embedded log, from items to an answer on a device.

Each chapter calls the same code as the verb of its name. Nothing here is a shortcut. The stream is cut in time. Teacher
and student learn from the part before the cut. The part after the cut also passes through the scorer and the joiner;
the judge uses it. At the end a real process serves the champion over HTTP, and the device file gets the same requests.

It measures nothing by itself: everything that it prints comes from what the loops return.
"""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from recdistill.config import (
    DistilSettings,
    FeatureSettings,
    GateSettings,
    HeldOutSettings,
    JoinSettings,
    LogSettings,
    PromoteSettings,
    RankSettings,
    RegistrySettings,
    ScoreSettings,
    Settings,
    TeacherSettings,
    TopicSettings,
    to_toml,
)
from recdistill.data import Dataset
from recdistill.demo.beside import Beside
from recdistill.demo.folder import emptied
from recdistill.demo.server import Server
from recdistill.demo.story import Chapter, Story
from recdistill.demo.summary import size_text, summarise, tell
from recdistill.errors import RecdistillError, RegistryError, UsageError
from recdistill.progress import folder_bytes
from recdistill.records import Impression, Record
from recdistill.stream import BUNDLES, Log, MadeBundle, made_bundles, open_log, standard_topics

WORKERS: Final = 2
"""Number of scorers. Each has its own partition of the impressions."""

ASKED: Final = 400
"""Number of real requests that are sent over HTTP and also given to the device file."""


@dataclass(frozen=True)
class Options:
    """The options of the command line."""

    dataset: str = "simulated"
    data: Path | None = None
    output: Path = Path("recdistill-demo")
    seed: int = 0
    keep_serving: bool = False
    impressions: int | None = None
    """For the simulated product only: how many impressions. None takes the simulator's default."""


def run(options: Options) -> dict[str, Any]:
    """Runs the demo and returns the summary that it also writes to `summary.json`.

    Raises:
        RecdistillError: A part of it failed. The error says which.
    """
    logging.getLogger("recdistill").setLevel(logging.WARNING)
    story = Story()
    out = emptied(options.output)
    with story.chapter("data", _title(options)) as chapter:
        dataset, best_possible = _dataset(options)
        settings = _settings(options, dataset, out)
        before, after = _cut(dataset)
        chapter.say(
            f"{len({item.id for item in dataset.items}):,} items, {len(dataset.impressions):,} impressions, "
            f"{len(dataset.feedback):,} feedback; the judge keeps the last {len(dataset.parts().test):,} impressions"
        )
    log = open_log(settings.log)
    with ExitStack() as ending:  # ends every process of the demo, also after an error
        ending.callback(log.close)
        log.create_topics(standard_topics(settings.topics.partitions, settings.topics.lanes))
        return _story(story, options, settings, dataset, log, (before, after), best_possible, ending)


def _story(
    story: Story,
    options: Options,
    settings: Settings,
    dataset: Dataset,
    log: Log,
    parts: tuple[Iterator[Record], Iterator[Record]],
    best_possible: Any,
    ending: ExitStack,
) -> dict[str, Any]:
    from recdistill import release
    from recdistill.bundle import open_bundle
    from recdistill.judge import Asked, BundleContender, gate, write_report
    from recdistill.loops import feed, opened, teach, teachers, wire
    from recdistill.teachers.builtin import Training
    from recdistill.train import use_threads

    out = options.output
    # Started now, so that they are ready when they are needed. The second core is idle until the teacher learns.
    config = out / "settings.toml"
    control_config, control_bundles = _without_teacher(options, settings, out)
    scorer = Beside("score", config, "--drain", "--set", "score.worker=1", needs="recdistill.teachers.builtin.teacher")
    ending.callback(scorer.end)
    control = Beside("distil", control_config, "--drain", needs="recdistill.train")
    ending.callback(control.end)
    joiner = Beside("join", config, needs="recdistill.loops.join")
    ending.callback(joiner.end)
    with story.chapter(
        "feed", "1  The product's stream arrives: items, impressions and feedback go into the log"
    ) as chapter:
        written = feed.feed(log, parts[0], progress=chapter)
        chapter.say(", ".join(f"{count:,} {topic}" for topic, count in written.items()))
    with story.chapter("teach", "2  A large teacher learns from labels (you would bring your own)") as chapter:
        teacher_dir = Path(settings.teacher.path)
        taught = teach.run(
            log,
            dataset.spec,
            teachers.own(Training, settings.teacher_training),
            teacher_dir,
            window_s=settings.join.window_s,
            max_ahead_s=settings.join.max_ahead_s,
            labels=settings.join.labels,
            progress=chapter,
        )
        teacher = teachers.open_teacher(settings.teacher)
        size = size_text(folder_bytes(teacher_dir))
        chapter.say(f"{teacher.id} {teacher.version}: {size}, trained on {taught['lists']:,} lists")
    with story.chapter(
        "score", "3  scorer: the teacher scores every candidate list; 4  joiner: feedback makes labels"
    ) as chapter:
        # Two scorers, each with its own partition: one here, one in its own process. The joiner follows them.
        use_threads(1)
        joiner.begin()
        scorer.begin()
        counts = _score(log, settings, teacher, chapter)
        scorer.wait()
        joiner.end()
        joiner.wait()
        chapter.say(f"{counts['rankings']:,} rankings by the scorer in this process; a second scorer made as many")
        counts = _join(log, settings, chapter, flush=False)
        chapter.say("at the same time, the joiner made examples")
    with story.chapter("distil", "5  distiller: a small student learns from the soft rankings") as chapter:
        chapter.say("at the same time, another process trains the same student without the teacher, to compare")
        control.begin()
        announcer = wire.announcer_of(settings, log)
        ending.callback(announcer.close)
        counts = wire.distil_from(
            log,
            dataset.spec,
            settings.student,
            settings.loss,
            settings.distil,
            settings.watch,
            stop=threading.Event(),
            drain=True,
            progress=chapter,
            publish=announcer,
        )
        made = _announced(log)
        registry = opened.open_registry(settings)
        bundle = registry.take(made.content_hash, Path(settings.registry.cache))
        size = size_text(folder_bytes(bundle.path))
        chapter.say(f"{counts['steps']:,} steps; bundle step-{made.step:010d}: {size}")
        control.wait()
    with story.chapter(
        "later", "6  Later: new impressions come, are scored and joined; nobody learns from them"
    ) as chapter:
        feed.feed(log, parts[1], progress=chapter)
        counts = _score(log, settings, teacher, chapter, worker=0) + _score(log, settings, teacher, chapter, worker=1)
        joined = _join(log, settings, chapter, flush=True)
        chapter.say(f"{counts['rankings']:,} rankings, {joined['examples']:,} examples")
    with story.chapter("judge", "7  judge: the bundle is compared with its teacher and with simpler models") as chapter:
        rivals = [BundleContender(open_bundle(_newest(control_bundles)), "student_no_kd")]
        judgement = release.judge(
            log,
            bundle,
            settings.promote.held_out,
            teacher=teacher,
            teacher_bytes=folder_bytes(teacher_dir),
            rivals=rivals if best_possible is None else [*rivals, best_possible],
            protocol="catalogue",
            ease=True,
            seed=options.seed,
            progress=chapter,
        )
        evidence = gate(judgement, Asked.by(settings.gate))
        report = out / "report.html"
        write_report(judgement, report, evidence)
        chapter.say(f"{judgement.lists:,} lists; gate: {'passed' if evidence.passed else 'NOT passed'}")
    with story.chapter(
        "promote", "8  registry: the version is published, and promoted if it passed the gate"
    ) as chapter:
        ledger = opened.open_ledger(settings, log)
        ending.callback(ledger.close)
        version, _ = release.publish(
            registry,
            ledger,
            bundle,
            judgement,
            evidence,
            policy=release.policy_of(Asked.by(settings.gate)),
            who="demo",
            report=report,
            device=out / "device.onnx",
            try_it=opened.trial_of(settings),
        )
        if evidence.passed:
            release.promote(registry, ledger, version.number, expect=None, who="demo", why="passed the gate")
            chapter.say(f"version {version.number} is the champion: {version.content_hash[:12]}")
        else:
            chapter.say("no champion: " + "; ".join(evidence.reasons))
    asked = [example.ranking.impression for example in release.held_out(log, bundle, ASKED)]
    server: Server | None = None
    latency: dict[str, float] = {}
    answers = BundleContender(bundle, "student").top(asked, 10)
    if evidence.passed:
        with story.chapter(
            "serve", "9  ranker: a separate process follows the champion and answers over HTTP"
        ) as chapter:
            server = Server(settings)
            ending.callback(server.end, keep=False)
            answers, latency = server.ask(asked)
            chapter.say(
                f"{len(asked):,} real requests, p50 {latency['p50']:.2f} ms, p99 {latency['p99']:.2f} ms, over loopback"
            )
    with story.chapter("device", "10 The device file answers the same requests, as on a phone") as chapter:
        overlap, device_bytes = _ask_device(out / "device.onnx", asked, answers)
        chapter.say(f"{size_text(device_bytes)}; {overlap:.1%} of its top ten are also in the ranker's")
    summary = summarise(
        options.dataset,
        options.seed,
        judgement,
        story,
        latency,
        overlap,
        log,
        version,
        (teacher_dir, bundle.path, device_bytes),
    )
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    tell(summary, judgement, evidence.passed, out)
    if server is not None:
        server.end(keep=options.keep_serving)
    if not evidence.passed:
        raise RegistryError(
            "the student did not pass the gate, so nothing was promoted or served: " + "; ".join(evidence.reasons)
        )
    return summary


# Setting up


def _title(options: Options) -> str:
    source = "a simulated product" if options.dataset == "simulated" else f"{options.dataset} from {options.data}"
    return f"recdistill demo: {source}, seed {options.seed}, into {options.output}"


def _dataset(options: Options) -> tuple[Dataset, Any]:
    """The data and, for a simulated world, the ranker that knows the truth."""
    if options.dataset == "simulated":
        from recdistill.data.simulated import SimulatorSettings, simulate

        chosen = (
            SimulatorSettings() if options.impressions is None else SimulatorSettings(impressions=options.impressions)
        )
        return simulate(chosen, seed=options.seed)
    from recdistill.data import movielens

    if options.data is None:
        raise UsageError(f"--dataset {options.dataset} needs --data DIR: {movielens.HOW_TO_GET}")
    return movielens.load(options.data, seed=options.seed), None


def _settings(options: Options, dataset: Dataset, out: Path) -> Settings:
    """Settings for this demo. They are written into its output folder, so that a person can use them later."""
    (out / "features.toml").write_text(to_toml(msgspec.to_builtins(dataset.spec)) + "\n", encoding="utf-8")
    where = out.resolve()
    settings = Settings(
        log=LogSettings(path=str(where / "log.sqlite")),
        features=FeatureSettings(file=str(where / "features.toml")),
        teacher=TeacherSettings(path=str(where / "teacher")),
        topics=TopicSettings(partitions=WORKERS),
        score=ScoreSettings(workers=WORKERS),
        # The log of a demo is finished, and learnt in many passes: one example for each list, and the judged part is
        # what comes after the cut.
        join=JoinSettings(labels=dict(dataset.labels), soft="with_labels", directory=""),
        held_out=HeldOutSettings(most=0.0),
        distil=DistilSettings(
            directory=str(where / "student"),
            passes=12 if options.dataset == "simulated" else 6,
            batch=512,
            seed=options.seed,
            threads=1,
            export_every=0,
        ),
        # Its bound needs some thousands of lists for the default of .95. The judged part of this world has fewer.
        gate=GateSettings(retention=0.85),
        # So many are enough for one verdict, and a demo has to end within minutes.
        promote=PromoteSettings(held_out=10_000),
        registry=RegistrySettings(uri=f"sqlite:///{where / 'mlflow.sqlite'}", cache=str(where / "cache")),
        rank=RankSettings(port=_free_port()),
    )
    # MovieLens has five times as many lists as the simulated world. It gets fewer passes, to end within five minutes.
    epochs = 4 if options.dataset == "simulated" else 2
    settings = msgspec.structs.replace(
        settings, teacher_training=msgspec.structs.replace(settings.teacher_training, seed=options.seed, epochs=epochs)
    )
    text = to_toml(msgspec.to_builtins(settings))
    (out / "settings.toml").write_text(
        f"# The settings of this demo: --config {out / 'settings.toml'}\n{text}\n", encoding="utf-8"
    )
    return settings


def _cut(dataset: Dataset) -> tuple[Iterator[Record], Iterator[Record]]:
    """The stream before the test part, and the stream from there on."""
    records: Iterator[Record] = dataset.timeline()
    cut_us = dataset.cut_us[1]
    first_after: list[Record] = []

    def before() -> Iterator[Record]:
        def early(record: Record) -> bool:
            late = isinstance(record, Impression) and record.time_us >= cut_us
            if late:
                first_after.append(record)
            return not late

        yield from takewhile(early, records)

    def after() -> Iterator[Record]:
        yield from first_after
        yield from records

    return before(), after()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# The loops. Each runs until nothing is left to do.


def _score(log: Log, settings: Settings, teacher: Any, chapter: Chapter, *, worker: int = 0) -> Counter[str]:
    from recdistill.loops import wire

    chosen = msgspec.structs.replace(settings.score, worker=worker)
    return wire.score_from(log, teacher, chosen, stop=threading.Event(), drain=True, progress=chapter)


def _join(log: Log, settings: Settings, chapter: Chapter, *, flush: bool) -> Counter[str]:
    from recdistill.loops import wire

    return wire.join_from(
        log, settings.join, settings.held_out, stop=threading.Event(), drain=True, flush=flush, progress=chapter
    )


def _without_teacher(options: Options, settings: Settings, out: Path) -> tuple[Path, Path]:
    """Settings of the same student without distillation (the soft weight is 0), and where its bundles will be.

    A student overfits labels sooner than a teacher's soft rankings. On the simulated stream, a student without a
    teacher is best after three passes and then gets worse. So it gets the number of passes that is best for it.
    """
    passes = min(3, settings.distil.passes) if options.dataset == "simulated" else settings.distil.passes
    directory = out.resolve() / "student_no_kd"
    changed = msgspec.structs.replace(
        settings,
        loss=msgspec.structs.replace(settings.loss, soft=0.0, label=1.0),
        distil=msgspec.structs.replace(settings.distil, directory=str(directory), passes=passes, publish=False),
    )
    file = out / "settings_no_kd.toml"
    file.write_text(to_toml(msgspec.to_builtins(changed)) + "\n", encoding="utf-8")
    return file, directory / "bundles"


def _ask_device(path: Path, asked: Sequence[Impression], answers: Sequence[Sequence[str]]) -> tuple[float, int]:
    """The share of the ranker's top ten that the device file also gives, and the file's size in bytes."""
    from recdistill.device import Device

    device = Device.open(path)
    shares = []
    for impression, answer in zip(asked, answers, strict=True):
        found, _ = device.recommend(
            [event.item for event in impression.history],
            actions=[event.action for event in impression.history],
            times_us=[event.time_us for event in impression.history],
            time_us=impression.time_us,
            context=impression.context,
            exclude=[*impression.exclude, *(event.item for event in impression.history)],
            k=10,
        )
        shares.append(len(set(found) & set(answer)) / max(1, len(answer)))
    return float(np.mean(shares)), path.stat().st_size


def _announced(log: Log) -> MadeBundle:
    with closing(log.source([BUNDLES])) as source:
        made, _ = made_bundles(source)
    if not made:
        raise RecdistillError("no bundle was announced; the distiller had nothing to learn from, or it gave a warning")
    return made[-1]


def _newest(bundles: Path) -> Path:
    found = sorted(bundles.glob("step-*"))
    if not found:
        raise RecdistillError(f"{bundles}: holds no bundle; the distiller had nothing to learn from")
    return found[-1]
