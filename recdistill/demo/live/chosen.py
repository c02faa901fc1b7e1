"""The world of the live demo, and the settings of its processes.

It knows nothing of processes or pages.

Example:
    >>> world_of(seconds=100.0, rate=20.0).impressions
    4000
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
    PrequentialSettings,
    PromoteSettings,
    RankSettings,
    RegistrySettings,
    ScoreSettings,
    Settings,
    TeacherSettings,
    to_toml,
)
from recdistill.data.simulated import SimulatorSettings

SHIFT: Final = 0.4
"""When all tastes turn, as a share of the stream."""

PAST: Final = 1.0
"""How much there is already when the stream begins: so many times its length. A product that starts has a log."""

FREEZE: Final = 0.75
"""The champion of this moment becomes the frozen student, as a share of the time before the turn."""

WINDOW_S: Final = 2.0
"""How long clicks are waited for. Twenty minutes of the simulated world are a part of a second here."""

_DAYS: Final = 180

CONTROL: Final = "control"
"""The process that makes the student without the teacher."""

CONTROL_FOLDER: Final = "student-control"
"""Its folder: that of the student, with `-control` behind it."""

CONTROL_ENV: Final = {"RECDISTILL__DISTIL__CONTROL": "true"}
"""What makes a second distiller the control: it learns the same lists from labels alone, and is never a candidate."""


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
        shift=(PAST + shift) / (PAST + 1),
    )


def settings_of(folder: Path, rank_port: int, *, seed: int) -> Settings:
    """The settings of the processes; they are written to `settings.toml` in the folder.

    The teacher's scores are in the lists (a `logged` teacher), as where a product logs what its ranker thought. Steps
    are small and bundles are made often, because a minute here stands for weeks. For the same reason the gate asks for
    less than it does by default: a student of some minutes, which must not be clearly worse than the champion.
    """
    settings = Settings(
        log=LogSettings(path=str(folder / "log.sqlite")),
        features=FeatureSettings(file=str(folder / "features.toml")),
        teacher=TeacherSettings(kind="logged", id="strong", scale="unbounded"),
        score=ScoreSettings(wait_s=0.1),
        join=JoinSettings(window_s=WINDOW_S, wait_s=0.1, idle_s=1.0, directory=str(folder / "join")),
        held_out=HeldOutSettings(least=0.15, most=0.15),
        distil=DistilSettings(
            directory=str(folder / "student"),
            batch=16,
            checkpoint_every=64,
            export_every=0,
            export_every_s=8.0,
            wait_s=0.1,
            threads=1,
            seed=seed,
        ),
        prequential=PrequentialSettings(
            share=0.25, champion=False, window_s=10.0, labels_within_s=10.0, half_life=300.0
        ),
        judge=JudgeSettings(protocol="shown"),
        gate=GateSettings(min_lists=100, retention=0.2, champion=0, beats_popularity=False),
        promote=PromoteSettings(wait_s=0.5, held_out=200),
        registry=RegistrySettings(uri=f"sqlite:///{folder / 'mlflow.sqlite'}", cache=str(folder / "cache")),
        rank=RankSettings(port=rank_port, follow_s=0.5, items_s=0.5),
    )
    text = to_toml(msgspec.to_builtins(settings))
    (folder / "settings.toml").write_text(
        f"# The settings of this demo: --config {folder / 'settings.toml'}\n{text}\n", encoding="utf-8"
    )
    return settings
