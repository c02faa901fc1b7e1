"""What makes a distiller the control: the settings become those of a student without a teacher.

It knows nothing of how a student learns, or how a bundle is judged.

Example:
    >>> from recdistill.config import Settings
    >>> made = as_control(Settings())
    >>> made.loss.soft, made.loss.label, made.distil.directory, made.registry.name
    (0.0, 1.0, 'recdistill-data/student-control', 'recdistill-student.control')
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from recdistill.config import Settings
from recdistill.errors import ConfigError

if TYPE_CHECKING:
    from recdistill.loops.swap import Try
    from recdistill.release import Controls


def as_control(settings: Settings) -> Settings:
    """The settings of the control: the same student on the same log, without the teacher's scores.

    It has a folder and a registered model of its own. Nobody predicts with it before it learns: the figures of the
    student would no longer be found among its own.

    Raises:
        ConfigError: The judge looks for no control.
    """
    name = settings.judge.control
    if not name:
        raise ConfigError(
            "judge.control is empty, so no judge looks for a control; set it, or leave distil.control out"
        )
    return replace(
        settings,
        distil=replace(settings.distil, directory=str(directory(settings)), control=False),
        loss=replace(settings.loss, soft=0.0, label=1.0, soft_head=False, replay_lists=0),
        prequential=replace(settings.prequential, share=0.0),
        registry=replace(settings.registry, name=f"{settings.registry.name}.{name}"),
    )


def directory(settings: Settings) -> Path:
    """The control's folder."""
    return Path(f"{settings.distil.directory.rstrip('/')}-control")


def controls_of(settings: Settings, try_it: Try | None = None) -> Controls | None:
    """The control's bundles in the registry; None: nobody looks for them.

    Raises:
        RegistryError: The registry cannot be opened.
    """
    from recdistill.loops.opened import open_registry
    from recdistill.release import Controls

    if not settings.judge.control:
        return None
    return Controls(open_registry(as_control(settings)), try_it)
