"""Runs one real Kafka broker on loopback, from the jars that `make setup-kafka` fetched.

`make kafka` runs it in the foreground. Tests and benchmarks start their own brokers. It knows nothing of topics: the
code that starts a broker also makes its topics.

Example:
    >>> missing_parts(Path("/nowhere")) is None
    False
"""

from __future__ import annotations

import argparse
import base64
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from string import Template

from tools import processes

ROOT = Path(__file__).resolve().parents[1]
LIBS = ROOT / ".cache" / "kafka" / "libs"
_DEPLOY = ROOT / "deploy" / "kafka"
_STARTED = re.compile(rb"Kafka Server started")
_START_PATIENCE_S = 180.0
_STOP_PATIENCE_S = 20.0
_TRIES = 3


def missing_parts(libs: Path = LIBS) -> str | None:
    """One line that says which part is missing and what to do. None: nothing is missing."""
    java = shutil.which("java")
    if java is None:
        return "no Java on the path for the Kafka broker; type: make setup-kafka"
    if not any(libs.glob("kafka_2.13-*.jar")):
        return f"no Kafka broker in {libs}; type: make setup-kafka"
    said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(\d+)', said)
    if version is None or int(version[1]) < 17:
        found = said.splitlines()[0] if said else "this java"
        return f"the Kafka broker needs Java 17 or newer, not {found}; type: make setup-kafka"
    return None


class KafkaBroker:
    """A single Kafka broker that is also its own controller. Its data is in `directory`.

    Args:
        directory: An existing folder for data, settings and `broker.log`. A broker that is started there again finds
            its data.
        port: The port for clients. None: a free one is chosen. It stays the same over restarts.
        heap_mb: Most memory of the Java heap.
        settings: More broker settings. They override those of deploy/kafka/server.properties.
    """

    def __init__(
        self, directory: Path, *, port: int | None = None, heap_mb: int = 384, settings: dict[str, str] | None = None
    ) -> None:
        self._directory = directory
        self._wanted_port = port
        self._ports: tuple[int, int] | None = None
        self._heap_mb = heap_mb
        self._settings = dict(settings or {})
        self._process: subprocess.Popen[bytes] | None = None
        self.log = directory / "broker.log"

    @property
    def bootstrap(self) -> str:
        """`host:port` for clients."""
        if self._ports is None:
            raise RuntimeError("this Kafka broker was never started")
        return f"127.0.0.1:{self._ports[0]}"

    @property
    def pid(self) -> int:
        """The process id of the running broker."""
        if self._process is None:
            raise RuntimeError("this Kafka broker is not running")
        return self._process.pid

    def start(self) -> KafkaBroker:
        """Starts the broker and waits until it takes requests.

        Raises:
            RuntimeError: parts are missing, or the broker did not start; the message has the end of its log.
        """
        if self._process is not None:
            raise RuntimeError("this Kafka broker is already running")
        if self._ports is not None:
            self._launch()  # clients know the address already, so it must be the same
            return self
        if (why := missing_parts()) is not None:
            raise RuntimeError(why)
        for attempt in range(1, _TRIES + 1):
            port, controller_port = processes.free_ports(2)
            self._ports = (self._wanted_port or port, controller_port)
            try:
                self._launch()
            except RuntimeError as error:
                # Another process may have taken the port after it was found free and before the broker started.
                if attempt == _TRIES or self._wanted_port is not None or "Address already in use" not in str(error):
                    self._ports = None
                    raise
            else:
                return self
        raise AssertionError("unreachable: the last attempt raises")

    def stop(self) -> None:
        """Ends the broker as an operator would, so it closes its logs. Does nothing if it is not running."""
        self._end(lambda process: processes.end(process, patience_s=_STOP_PATIENCE_S))

    def kill(self) -> None:
        """Ends the broker as a power cut would. Does nothing if it is not running."""
        self._end(processes.kill)

    def restart(self) -> None:
        """Stops the broker and starts it again, with the same data and address."""
        self.stop()
        self.start()

    def __enter__(self) -> KafkaBroker:
        return self.start()

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    def _end(self, how: Callable[[subprocess.Popen[bytes]], int]) -> None:
        if self._process is not None:
            how(self._process)
            self._process = None

    def _launch(self) -> None:
        properties = self._directory / "server.properties"
        data = self._directory / "data"
        properties.write_text(self._properties(data))
        java = [
            "java",
            f"-Dlog4j2.configurationFile=file:{_DEPLOY / 'log4j2.properties'}",
            # Compiler and garbage collector use one core, because brokers and tests share few cores.
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-Xms64m",
            f"-Xmx{self._heap_mb}m",
            "-cp",
            f"{LIBS}/*",
        ]
        if not (data / "meta.properties").exists():
            formatted = subprocess.run(
                [*java, "kafka.tools.StorageTool", "format", "--standalone", "-t", _new_cluster_id(), "-c", properties],
                capture_output=True,
                text=True,
                check=False,
            )
            if formatted.returncode != 0:
                raise RuntimeError(
                    f"Kafka's storage could not be formatted in {data}:\n{formatted.stdout}{formatted.stderr}"
                )
        seen = self.log.stat().st_size if self.log.exists() else 0
        self._process = processes.spawn([*java, "kafka.Kafka", properties], log=self.log)

        def started() -> bool:
            with self.log.open("rb") as log:
                log.seek(seen)
                return _STARTED.search(log.read()) is not None

        try:
            processes.wait_until(
                started, self._process, what="The Kafka broker", log=self.log, patience_s=_START_PATIENCE_S
            )
        except RuntimeError:
            self._process = None
            raise

    def _properties(self, data: Path) -> str:
        if self._ports is None:
            raise RuntimeError("this Kafka broker has no ports yet")
        port, controller_port = self._ports
        template = Template((_DEPLOY / "server.properties").read_text())
        text = template.substitute(port=port, controller_port=controller_port, data=data)
        kept = [line for line in text.splitlines() if line.split("=", 1)[0] not in self._settings]
        return "\n".join([*kept, *(f"{name}={value}" for name, value in self._settings.items())]) + "\n"


def _new_cluster_id() -> str:
    # One id in 64 would begin with a dash. Kafka's tool would read it as an option.
    return "k" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")[1:]


def _serve_by_hand(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="A local Kafka broker in the foreground; Ctrl-C ends it.")
    parser.add_argument("--port", type=int, default=9092, help="where clients connect (default: %(default)s)")
    parser.add_argument("--data", type=Path, help="folder to keep its data in (default: a new one, removed at the end)")
    options = parser.parse_args(argv)
    if (why := missing_parts()) is not None:
        print(f"recdistill: {why}", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="recdistill-kafka-") as fresh:
        directory = options.data or Path(fresh)
        directory.mkdir(parents=True, exist_ok=True)
        broker = KafkaBroker(directory.resolve(), port=options.port, heap_mb=512)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            broker.start()
            print(f"Kafka is ready at {broker.bootstrap} (log: {broker.log}); Ctrl-C ends it", flush=True)
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            print("Kafka is stopping", file=sys.stderr)
        except RuntimeError as error:
            print(f"recdistill: {error}", file=sys.stderr)
            return 1
        finally:
            broker.stop()
    return 0


if __name__ == "__main__":
    sys.exit(_serve_by_hand())
