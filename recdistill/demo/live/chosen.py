"""The world of the live demo, and the settings of its processes.

It knows nothing of processes or pages.

Example:
    >>> world_of(seconds=100.0, rate=20.0).impressions
    3000
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from recdistill.config import (
    DistilSettings,
    FeatureSettings,
    GateSettings,
    HeldOutSettings,
    JoinSettings,
    JudgeSettings,
    LogSettings,
    LossSettings,
    PrequentialSettings,
    PromoteSettings,
    RankSettings,
    RegistrySettings,
    ScoreSettings,
    Settings,
    StatusSettings,
    StudentSettings,
    TeacherSettings,
    to_toml,
)
from recdistill.data.simulated import SimulatorSettings

SHIFT: Final = 0.3
"""When all tastes turn, as a share of the stream."""

PAST: Final = 0.5
"""How much there is already when the stream begins: so many times its length. A product that starts has a log."""

FREEZE: Final = 0.75
"""The champion of this moment becomes the frozen student, as a share of the time before the turn."""

WINDOW_S: Final = 2.0
"""How long clicks are waited for. Twenty minutes of the simulated world are a part of a second here."""

RECENT_S: Final = 30.0
"""How far back popularity of late looks."""

EXPORT_S: Final = 12.0
"""A bundle is made so often in a stream of minutes."""

_DAYS: Final = 180

CONTROL: Final = "control"
"""The process that makes the student without the teacher."""

CONTROL_FOLDER: Final = "student-control"
"""Its folder: that of the student, with `-control` behind it."""


def world_of(*, seconds: float, rate: float, shift: float = SHIFT) -> SimulatorSettings:
    """A world with a past, then `rate` lists a second for so many seconds, and tastes that turn on the way.

    Args:
        seconds: How long the stream lasts.
        rate: Lists a second.
        shift: When the tastes turn, as a share of the stream.
    """
    count = max(200, round((1 + PAST) * seconds * rate))
    return SimulatorSettings(
        kind="deep",
        items=200,
        users=max(400, count // 10),
        impressions=count,
        days=_DAYS,
        shortest=20,
        longest=40,
        strength=8.0,
        shift=(PAST + shift) / (PAST + 1),
    )


def log_of(folder: Path, brokers: str | None, name: str) -> LogSettings:
    """The log of the demo: a file in its folder, or topics of its own on a Kafka broker.

    Args:
        folder: The folder of the demo.
        brokers: Addresses of the brokers; None: a file.
        name: Put before each topic on a broker, so that a broker can be used again.
    """
    if brokers is None:
        return LogSettings(path=str(folder / "log.sqlite"))
    return LogSettings(kind="kafka", path=str(folder / "log.sqlite"), brokers=brokers, prefix=name)


def settings_of(
    folder: Path, rank_port: int, *, seed: int, seconds: float, log: LogSettings, price: float | None = None
) -> Settings:
    """The settings of the processes; they are written to `settings.toml` in the folder.

    The teacher's scores are in the lists (a `logged` teacher), as where a product logs what its ranker thought. Steps
    are small and bundles are made often, because a minute here stands for weeks. The gate asks only that a student is
    not shown to be worse than the champion, as a whole and in no slice: after the turn no student keeps much of its
    teacher for a while, and the best there is should serve. The student learns with the settings for a stream, as in
    `deploy/config`, but for what is short here because minutes stand for weeks: the rates of its rows come back sooner
    (`student.forget_lists`), and it averages and looks again at fewer lists (`student.average_lists`,
    `loss.replay_lists`), so that the old tastes are forgotten sooner. Steps are half as large (`distil.batch`): few
    lists come in a second, and a student of twice as many steps finds the new tastes in fewer lists.

    Args:
        folder: The folder of the demo.
        rank_port: Where the ranker listens.
        seed: Seed of the student.
        seconds: How long the stream lasts. In a short one bundles are made more often.
        log: Where the topics live.
        price: Of an hour of one processor; None: the default.
    """
    settings = Settings(
        log=log,
        features=FeatureSettings(file=str(folder / "features.toml")),
        teacher=TeacherSettings(kind="logged", id="strong", scale="unbounded"),
        score=ScoreSettings(wait_s=0.3),
        join=JoinSettings(window_s=WINDOW_S, wait_s=0.3, idle_s=1.0, directory=str(folder / "join")),
        held_out=HeldOutSettings(least=0.15, most=0.15),
        distil=DistilSettings(
            directory=str(folder / "student"),
            batch=16,
            checkpoint_every=128,
            export_every=0,
            export_every_s=min(EXPORT_S, max(4.0, seconds / 20)),
            wait_s=0.1,
            threads=1,
            seed=seed,
        ),
        student=StudentSettings(
            learning_rate=0.01,
            embedding_learning_rate=0.14,
            dropout=0.0,
            id_dropout=0.03,
            average_lists=200,
            forget_lists=2000,
        ),
        loss=LossSettings(label=0.1, replay_lists=512),
        prequential=PrequentialSettings(
            share=0.05, champion=False, window_s=10.0, labels_within_s=10.0, half_life=300.0
        ),
        judge=JudgeSettings(protocol="shown", learnt=3000),
        gate=GateSettings(min_lists=100, retention=0, champion=0, beats_popularity=False),
        promote=PromoteSettings(wait_s=1.0, held_out=200),
        registry=RegistrySettings(uri=f"sqlite:///{folder / 'mlflow.sqlite'}", cache=str(folder / "cache")),
        rank=RankSettings(port=rank_port, follow_s=5.0, items_s=1.0),
        status=StatusSettings() if price is None else StatusSettings(processor_hour=price),
    )
    text = to_toml(msgspec.to_builtins(settings))
    (folder / "settings.toml").write_text(
        f"# The settings of this demo: --config {folder / 'settings.toml'}\n{text}\n", encoding="utf-8"
    )
    return settings


def control_of(settings: Settings) -> dict[str, str]:
    """The environment that makes a second distiller the control.

    It learns the same lists from labels alone, and is never a candidate. It makes a third as many bundles as the
    student: it is a line of the reports, and nobody waits for it.

    Args:
        settings: Those of the demo.
    """
    every_s = 3 * settings.distil.export_every_s
    return {"RECDISTILL__DISTIL__CONTROL": "true", "RECDISTILL__DISTIL__EXPORT_EVERY_S": str(every_s)}
