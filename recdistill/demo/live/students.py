"""The students that the demo asks in its own process: the frozen one, the control, and the device file of the champion.

The frozen student is the one that served at a certain moment. The control learns from labels alone; its newest bundle
is asked.

It knows nothing of processes, logs or pages.

Example:
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Control(Path(folder))(Impression("i", 5, candidates=())) is None
    True
"""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from recdistill.bundle import made, open_bundle, reading
from recdistill.errors import BundleError
from recdistill.judge import BundleContender
from recdistill.records import Impression
from recdistill.registry import CHAMPION, Registry


class Frozen:
    """The student that served when somebody looked first.

    Args:
        folder: For its files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._student: BundleContender | None = None

    def look(self, registry: Registry) -> None:
        """Takes the champion, once there is one.

        Raises:
            RegistryError: The registry does not answer.
        """
        if self._student is None and (champion := registry.find(CHAMPION)) is not None:
            self._student = BundleContender(registry.take(champion.content_hash, self._folder), "frozen")

    def __call__(self, impression: Impression) -> NDArray[Any] | None:
        """Scores of the candidates; None where there is no champion yet."""
        return None if self._student is None else self._student.scores([impression])[0]


class Control:
    """The newest bundle of a student that learns beside.

    Args:
        folder: The folder of that student.
    """

    def __init__(self, folder: Path) -> None:
        self._bundles = folder / "bundles"
        self._newest: Path | None = None
        self._student: BundleContender | None = None

    def look(self) -> None:
        """Takes a newer bundle, if there is one."""
        newest = max(made(self._bundles), default=None)
        if newest is None or newest == self._newest:
            return
        with suppress(BundleError), reading(newest):  # it may just go; the next look finds the one after it
            self._student = BundleContender(open_bundle(newest), "control")
            self._newest = newest

    def __call__(self, impression: Impression) -> NDArray[Any] | None:
        """Scores of the candidates; None where there is no bundle yet."""
        return None if self._student is None else self._student.scores([impression])[0]


class OnDevice:
    """The device file of what serves now. For any thread.

    Args:
        uri: Where the registry is.
        name: The registered model.
        folder: For its files.
    """

    def __init__(self, uri: str, name: str, folder: Path) -> None:
        self._registry: Registry | None = None
        self._uri, self._name, self._folder = uri, name, folder
        self._lock = threading.Lock()
        self._made: tuple[str, bytes] | None = None

    def __call__(self) -> bytes | None:
        """Its bytes; None where nothing serves yet.

        Raises:
            RecdistillError: The registry does not answer, or the bundle is damaged.
        """
        from recdistill.device import export_device

        with self._lock:
            self._registry = self._registry or Registry(self._uri, self._name)
            champion = self._registry.find(CHAMPION)
            if champion is None:
                return None
            if self._made is None or self._made[0] != champion.content_hash:
                bundle = self._registry.take(champion.content_hash, self._folder)
                self._folder.mkdir(parents=True, exist_ok=True)
                file = self._folder / "device.onnx"
                export_device(bundle, file)
                self._made = (champion.content_hash, file.read_bytes())
            return self._made[1]
