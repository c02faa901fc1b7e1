"""Opens what the settings name: the log if it is there, the registry, the ledger, the champion, the trial of a bundle.

It knows nothing of what is done with them.

Example:
    >>> from recdistill.config import Settings
    >>> keys_of(Settings()).signs
    ''
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from recdistill.config import LogSettings, Settings
from recdistill.errors import StreamError
from recdistill.loops.follow import Champion
from recdistill.stream import Log, open_log

if TYPE_CHECKING:
    from recdistill.bundle import Bundle
    from recdistill.ledger import Keys, Ledger
    from recdistill.loops.swap import Try
    from recdistill.registry import Registry


def log_if_there(settings: LogSettings) -> Log | None:
    """The settings' log; None where there is none. An embedded log that is not there would be made by opening it."""
    return None if settings.kind == "embedded" and not Path(settings.path).exists() else open_log(settings)


def open_registry(settings: Settings) -> Registry:
    """The settings' registry.

    Raises:
        RegistryError: It cannot be opened.
    """
    from recdistill.registry import Registry

    return Registry(settings.registry.uri, settings.registry.name, timeout_s=settings.registry.timeout_s)


def keys_of(settings: Settings) -> Keys:
    """The keys of the settings' folder.

    Raises:
        ConfigError: A file of it is not a key.
    """
    from recdistill.ledger import open_keys

    chosen = settings.keys
    return open_keys(Path(chosen.directory), signer=chosen.signer, required=chosen.required)


def open_ledger(settings: Settings, log: Log) -> Ledger:
    """The ledger of the settings' model, in a log that is open.

    Raises:
        ConfigError: A file of the folder of keys is not a key.
    """
    from recdistill.ledger import Ledger

    return Ledger(log, settings.registry.name, keys_of(settings))


def champion_of(settings: Settings) -> Champion:
    """The champion of the settings' registry, to be followed; where `registry.by_hand` is keep, that of the ledger."""
    registry = settings.registry
    follower = _Decided(settings) if registry.by_hand == "keep" else None
    return Champion(registry.name, lambda: open_registry(settings), Path(registry.cache), follower)


def trial_of(settings: Settings) -> Try | None:
    """Tries a bundle in a process of its own, within the settings' bounds; None where nothing is tried."""
    from recdistill.trial import Bounds, tried

    if not (chosen := settings.trial).on:
        return None
    bounds = Bounds(cpu_s=chosen.cpu_s, wall_s=chosen.wall_s, memory_mb=chosen.memory_mb, rows=chosen.rows)

    def try_it(bundle: Bundle, *, device: Path | None = None, stop: Callable[[], bool] = lambda: False) -> None:
        tried(bundle.path, content_hash=bundle.content_hash, device=device, bounds=bounds, stop=stop)

    return try_it


class _Decided:
    """Reads the ledger at each call. The log is opened at the first, and again after it failed."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._log: Log | None = None
        self._ledger: Ledger | None = None

    def __call__(self) -> tuple[str, str] | None:
        """What the ledger made champion last.

        Raises:
            StreamError: The log cannot be read.
        """
        try:
            if self._ledger is None:
                self._log = open_log(self._settings.log)
                self._ledger = open_ledger(self._settings, self._log)
            return self._ledger.look().decided
        except StreamError:
            for part in (self._ledger, self._log):
                if part is not None:
                    part.close()
            self._log = self._ledger = None
            raise
