"""What all uses of kafka-python need: checked settings, errors as sentences, and waiting while a broker is away.

It knows nothing of topics, messages or stages.

Example:
    >>> Brokers("127.0.0.1:9092, 127.0.0.1:9093", {}).where
    'Kafka at 127.0.0.1:9092,127.0.0.1:9093'
    >>> Brokers("127.0.0.1:9092", {"sasl_mecanism": "PLAIN"})
    Traceback (most recent call last):
    ...
    recdistill.errors.ConfigError: log.options.sasl_mecanism: no option of kafka-python (did you mean sasl_mechanism?)
"""

from __future__ import annotations

import importlib.util
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.errors import (
    InvalidProducerEpochError,
    KafkaError,
    ProducerFencedError,
    RetriableError,
    TopicAlreadyExistsError,
)

from recdistill.errors import ConfigError, Fenced, RecdistillError, StreamError
from recdistill.installed import how_to_install
from recdistill.stream.contract import suggest
from recdistill.stream.kafka.headers import read_any_name

log_ = logging.getLogger(__name__)

_T = TypeVar("_T")
Options = Mapping[str, str | int | float | bool]

PATIENCE_S = 120.0
"""How long a broker may be away before that is an error."""

GIVES_WAY_S = 3.0
"""How long it is waited for if the process was told to stop."""

REMIND_S = 10.0
"""How often the log says that this process is waiting."""

SAID_AFTER_S = 3.0
"""A wait that is shorter is not worth a line."""

# Not for the settings file: settings that the contract needs, and settings whose values are objects.
_OURS = frozenset(
    "bootstrap_servers group_id group_instance_id enable_auto_commit auto_offset_reset isolation_level "  # noqa: SIM905
    "default_offset_commit_callback key_deserializer value_deserializer key_serializer value_serializer "
    "partitioner partition_assignment_strategy transactional_id enable_idempotence acks retries "
    "allow_auto_create_topics consumer_timeout_ms kafka_client selector metric_reporters ssl_context "
    "sasl_oauth_token_provider socket_options api_version".split()
)
_FILES = ("ssl_cafile", "ssl_certfile", "ssl_keyfile", "ssl_crlfile")
_PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
# The topics are asked for every few seconds, so a deleted topic and a new partition are noticed soon.
_CONSUMER = {"max_partition_fetch_bytes": 4 << 20, "metrics_enabled": False, "metadata_max_age_ms": 5_000}
# With the client's default backoff each transaction would wait 100 ms, while the coordinator still closes the last one.
_PRODUCER = {
    "compression_type": "lz4",
    "batch_size": 256 << 10,
    "linger_ms": 5,
    "retry_backoff_ms": 20,
    "transaction_timeout_ms": 120_000,
    "metrics_enabled": False,
    "metadata_max_age_ms": 5_000,
}
_CLIENTS = (KafkaAdminClient, KafkaProducer, KafkaConsumer)
_DEFAULTS: dict[type, dict[str, Any]] = {KafkaConsumer: _CONSUMER, KafkaProducer: _PRODUCER}


class _Seldom(logging.Filter):
    """Lets a line of the client through once in a while. It repeats some of them ten times a second."""

    def __init__(self) -> None:
        super().__init__()
        self._next: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether this line was not written in the last seconds."""
        line, now = record.getMessage(), time.monotonic()
        if now < self._next.get(line, 0.0):
            return False
        if len(self._next) > 1000:
            self._next.clear()
        self._next[line] = now + REMIND_S
        return True


for _name in ("cluster", "consumer.fetcher", "consumer.group", "producer.kafka", "producer.sender", "net.manager"):
    logging.getLogger(f"kafka.{_name}").addFilter(_Seldom())


read_any_name()


class Brokers:
    """Where the brokers are and how to talk to them.

    Args:
        servers: Bootstrap servers, `host:port,host:port`.
        options: Settings of kafka-python by its own names.
        stop: Whether the process was told to stop. Then nobody waits long for a broker that is silent.

    Raises:
        ConfigError: An option does not exist or must not be set by the user, or there is no server.
    """

    def __init__(self, servers: str, options: Options, stop: Callable[[], bool] = lambda: False) -> None:
        self.stop = stop
        self._servers = [server.strip() for server in servers.split(",") if server.strip()]
        self._options = _typed(options)
        _check_options(self._options)
        if not self._servers:
            raise ConfigError("log.brokers: name at least one broker as host:port")
        if importlib.util.find_spec("crc32c") is None:
            log_.warning("the package crc32c is missing: reading will be about ten times slower; pip install crc32c")

    @property
    def where(self) -> str:
        """The brokers, for a person."""
        return f"Kafka at {','.join(self._servers)}"

    def settings(self, client: type, ours: Mapping[str, Any]) -> dict[str, Any]:
        """Settings of one class of the client: our defaults, then the user's options, then what the contract needs."""
        defaults: Mapping[str, Any] = _DEFAULTS.get(client, {})
        known: dict[str, Any] = client.DEFAULT_CONFIG  # type: ignore[attr-defined]
        chosen = {name: value for name, value in self._options.items() if name in known}
        return {**defaults, **chosen, **ours, "bootstrap_servers": self._servers}

    def consumer(self, group: str | None = None, *, fetch_bytes: int | None = None) -> KafkaConsumer:
        """A consumer that never commits, never resets, and sees only committed messages.

        Args:
            group: To ask for the committed positions of a group. The broker then answers only when no transaction of
                that group is still being closed.
            fetch_bytes: How much to ask for at once, for a caller that wants only a few records.
        """
        ours = {
            "group_id": group,
            "enable_auto_commit": False,
            "auto_offset_reset": "none",
            "isolation_level": "read_committed",
            "allow_auto_create_topics": False,
            **({} if fetch_bytes is None else {"max_partition_fetch_bytes": fetch_bytes}),
        }
        return self.opened(lambda: KafkaConsumer(**self.settings(KafkaConsumer, ours)))

    def opened(self, call: Callable[[], _T]) -> _T:
        """Opens a client. That takes half a minute where a broker is silent; who is told to stop does not wait for it.

        Raises:
            StreamError: The process was told to stop, and the broker does not answer.
        """
        made: list[_T] = []
        failed: list[BaseException] = []

        def run() -> None:
            try:
                made.append(call())
            except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
                failed.append(error)

        thread = threading.Thread(target=run, name="recdistill-kafka-open", daemon=True)
        thread.start()
        told_s: float | None = None
        while thread.is_alive():
            thread.join(0.1)
            told_s = told_s if told_s is not None or not self.stop() else time.monotonic()
            if told_s is not None and thread.is_alive() and time.monotonic() - told_s > GIVES_WAY_S:
                raise StreamError(f"{self.where} does not answer, and this process was told to stop; check the brokers")
        if failed:
            raise failed[0]
        return made[0]

    @contextmanager
    def explained(self, doing: str) -> Iterator[None]:
        """Turns an error of the client into one sentence that says what to do."""
        try:
            yield
        except (ProducerFencedError, InvalidProducerEpochError) as error:
            raise self.fenced() from error
        except (RecdistillError, TopicAlreadyExistsError):
            raise
        except (KafkaError, OSError, RuntimeError, ValueError, KeyError) as error:
            # A producer that was fenced in one request says so in the error of the next one.
            if any(isinstance(reason, ProducerFencedError | InvalidProducerEpochError) for reason in error.args):
                raise self.fenced() from error
            text = str(error) or type(error).__name__
            if "compression codec" in text:
                advice = f"lz4, python-snappy and zstandard read every codec of Kafka; type: {how_to_install('kafka')}"
            elif "uthenticat" in text or "uthoriz" in text or "SASL" in text or "SSL" in text:
                advice = "check the security options in log.options and the rights of this user"
            else:
                # To this client, a refused login looks like a broker that does not answer.
                secured = " and the security options in log.options" if _is_secured(self._options) else ""
                advice = f"check log.brokers{secured}, and that the brokers are up and can be reached from here"
            raise StreamError(f"cannot {doing} {self.where}: {text}; {advice}") from error

    def fenced(self) -> Fenced:
        """The error for a stage that another process has taken over."""
        return Fenced(f"a newer process has taken over this stage on {self.where}; this one must stop")

    def retry(self, call: Callable[[], _T]) -> _T:
        """Calls until the broker answers, for two minutes at most. It says so in the log while it waits for long.

        A broker on which nobody wrote a transaction yet needs a second for its first one. If the process was told to
        stop, it waits for seconds only.
        """
        started = time.monotonic()
        reminded = started + SAID_AFTER_S - REMIND_S
        while True:
            try:
                return call()
            except (RetriableError, OSError, KeyError) as error:
                # KeyError: an answer about the ends of partitions can lack one, and the client stumbles over that.
                now = time.monotonic()
                if now - started > (GIVES_WAY_S if self.stop() else PATIENCE_S):
                    raise
                if now - reminded >= REMIND_S:
                    log_.warning("%s does not answer (%s); trying again for %.0f s", self.where, error, PATIENCE_S)
                    reminded = now
                time.sleep(0.2)

    def bounded(self, doing: str, call: Callable[[], object], limit_s: float) -> None:
        """Makes a call of the client that may wait for ever, and waits for it only so long.

        Raises:
            StreamError: It did not return in time. What it used must not be used again.
        """
        result: list[BaseException | None] = []

        def run() -> None:
            try:
                call()
                result.append(None)
            except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
                result.append(error)

        thread = threading.Thread(target=run, name="recdistill-kafka", daemon=True)
        thread.start()
        deadline = time.monotonic() + limit_s
        while thread.is_alive():
            thread.join(min(REMIND_S, max(0.0, deadline - time.monotonic())))
            if thread.is_alive():
                if time.monotonic() >= deadline:
                    raise StreamError(
                        f"cannot {doing} {self.where}: no answer within {limit_s:.0f} s; check the brokers"
                    )
                log_.warning("%s does not answer while we %s it; waiting %.0f s", self.where, doing, limit_s)
        if result[0] is not None:
            raise result[0]


def _typed(options: Options) -> dict[str, str | int | float | bool]:
    """The options, with texts from the environment read as the client's own defaults say.

    A text stays a text where the client wants one, whatever it looks like: a user name may be 12345.
    """
    typed = dict(options)
    for name, value in options.items():
        default = next((c.DEFAULT_CONFIG[name] for c in _CLIENTS if name in c.DEFAULT_CONFIG), None)
        counts = isinstance(default, int | float) or name.endswith(("_ms", "_bytes"))
        if isinstance(value, str) and isinstance(default, bool):
            typed[name] = {"true": True, "false": False}.get(value.lower(), value)
        elif isinstance(value, str) and counts:
            with suppress(ValueError):
                typed[name] = int(value) if isinstance(default, int) or default is None else float(value)
    return typed


def _check_options(options: Options) -> None:
    known: dict[str, Any] = {}
    for client in _CLIENTS:
        known.update({name: value for name, value in client.DEFAULT_CONFIG.items() if name not in _OURS})
    for name, value in options.items():
        if name in _OURS:
            raise ConfigError(f"log.options.{name}: recdistill sets this itself; remove it")
        if name not in known:
            raise ConfigError(f"log.options.{name}: no option of kafka-python{suggest(name, known)}")
        # The client notices a wrong type late or never, so check it here.
        default = known[name]
        if isinstance(default, bool) or not isinstance(default, int | float):
            fits = default is None or type(value) is type(default)
        else:
            fits = isinstance(value, int | float) and not isinstance(value, bool)
        if not fits:
            wanted = {bool: "true or false", str: "a text"}.get(type(default), "a number")
            raise ConfigError(f"log.options.{name}: must be {wanted}, like {default!r}, not {value!r}")
        if name in _FILES and not Path(str(value)).is_file():
            raise ConfigError(f"log.options.{name}: there is no file {value!r}")
    protocol = options.get("security_protocol", "PLAINTEXT")
    if protocol not in _PROTOCOLS:
        raise ConfigError(f"log.options.security_protocol: must be one of {', '.join(_PROTOCOLS)}, not {protocol!r}")


def _is_secured(options: Options) -> bool:
    return any(name.startswith(("sasl_", "ssl_")) or name == "security_protocol" for name in options)
