"""One real MLflow tracking server on loopback, with SQLite. Artefacts go through its own HTTP.

MLflow makes the tables of a new file by seventy migrations, one after the other. That takes it some seconds. Here it
does so once, and each new file is a copy: for the server, and for tests whose registry is a file.

It knows nothing of what is stored in it.

Example:
    >>> MlflowServer(Path("somewhere")).log.name
    'mlflow.log'
"""

from __future__ import annotations

import fcntl
import http.client
import importlib.metadata
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tools import processes

ROOT = Path(__file__).resolve().parents[1]

_START_PATIENCE_S = 120.0
_STOP_PATIENCE_S = 10.0


def new_file(path: Path) -> str:
    """Makes an empty registry in a new file, and returns its address."""
    from recdistill.registry.client import Connection

    kept = ROOT / ".cache" / "mlflow" / f"empty-{importlib.metadata.version('mlflow')}.sqlite"
    kept.parent.mkdir(parents=True, exist_ok=True)
    with kept.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            draft = kept.with_suffix(f".{os.getpid()}")
            Connection(f"sqlite:///{draft}", timeout_s=20.0)
            draft.rename(kept)
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(kept, path)
    return f"sqlite:///{path}"


class MlflowServer:
    """An MLflow tracking server. All its state is in `directory`, an existing folder."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._port: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.log = directory / "mlflow.log"

    @property
    def uri(self) -> str:
        """The tracking URI for clients."""
        if self._port is None:
            raise RuntimeError("this MLflow server was never started")
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> MlflowServer:
        """Starts the server and waits until it answers. A second start keeps the address.

        Raises:
            RuntimeError: It did not start. The message has the end of its log.
        """
        if self._process is not None:
            raise RuntimeError("this MLflow server is already running")
        if self._port is None:
            (self._port,) = processes.free_ports(1)
        if not (file := self._directory / "mlflow.db").exists():
            new_file(file)
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self._port)]
        command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{file}"]
        command += ["--serve-artifacts", "--artifacts-destination", str(self._directory / "artifacts")]
        quiet = {
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
        self._process = processes.spawn(command, log=self.log, env={**os.environ, **quiet})
        try:
            processes.wait_until(
                self._healthy, self._process, what="The MLflow server", log=self.log, patience_s=_START_PATIENCE_S
            )
        except RuntimeError:
            self._process = None
            raise
        return self

    def stop(self) -> None:
        """Ends the server. Does nothing if it is not running."""
        if self._process is not None:
            processes.end(self._process, patience_s=_STOP_PATIENCE_S)
            self._process = None

    def __enter__(self) -> MlflowServer:
        return self.start()

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    def _healthy(self) -> bool:
        if self._port is None:
            return False
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=2)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
