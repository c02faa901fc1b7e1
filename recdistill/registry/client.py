"""An MLflow client that never waits for long. Each of its failures becomes one sentence.

It knows nothing of models, bundles or aliases.

Example:
    >>> metric_key("ndcg@10")
    'ndcg_at_10'
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import urlsplit

from recdistill.errors import NoRoom, RegistryError
from recdistill.installed import how_to_install
from recdistill.sealed import disk_is_full, folder_of
from recdistill.text import cut, without_credentials

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

T = TypeVar("T")
_RETRIES = 2
_LOGIN = (
    "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, for a user that may "
    "read and write models"
)


class Connection:
    """A client of one registry.

    Args:
        uri: `sqlite:///FILE`, or the http(s) address of an MLflow server.
        timeout_s: Longest wait for one answer of a server; a call is tried three times at most. MLflow keeps this
            setting for the whole process, so the connection that was opened last decides.

    Raises:
        RegistryError: The URI cannot be one, or mlflow is not installed.
    """

    def __init__(self, uri: str, timeout_s: float) -> None:
        self.uri, self.artifacts = checked_uri(uri)
        self.shown = without_credentials(self.uri)
        # By itself MLflow would wait two minutes, seven times, and send usage figures to its makers.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        # Standard output belongs to the command line's own results.
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = str(max(1, round(timeout_s)))
        os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = str(_RETRIES)
        os.environ["MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR"] = "1"
        need_mlflow(self.uri, whole=self.artifacts is not None)
        from mlflow.tracking import MlflowClient

        # On the first use of a file these log lines about tables, which help nobody.
        for name in ("mlflow.store.db.utils", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        with one_at_a_time(self.uri), self.talk("open it"):
            client = MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
            # The timeout of MLflow is for each piece of an answer. A server that sends a byte now and then never ends.
            whole_s = (_RETRIES + 1) * (timeout_s + 2)
            self.client: MlflowClient = client if self.artifacts else cast("MlflowClient", _Bounded(client, whole_s))
            if self.artifacts is not None:
                self.client.search_registered_models(max_results=1)  # makes the tables of a new file

    @contextlib.contextmanager
    def talk(self, doing: str) -> Iterator[None]:
        """Turns whatever MLflow and its transports raise into one sentence.

        Raises:
            RegistryError: Something failed inside.
        """
        try:
            yield
        except _failures() as e:
            if disk_is_full(e):
                raise NoRoom(folder_of(e, self.shown), doing) from e
            raise RegistryError(f"{self.shown}: cannot {doing}: {sentence(e)}") from e

    def make_model(self, name: str, tags: dict[str, str], description: str) -> bool:
        """Makes a registered model; False when the name is taken. The one atomic step that MLflow offers."""
        from mlflow.exceptions import MlflowException

        try:
            self.client.create_registered_model(name, tags=tags, description=description)
        except MlflowException as e:
            if e.error_code == "RESOURCE_ALREADY_EXISTS":
                return False
            raise
        return True


class _Bounded:
    """A client whose calls end: with an answer, or with TimeoutError after `limit_s` seconds."""

    def __init__(self, client: object, limit_s: float) -> None:
        self._client = client
        self._limit_s = limit_s

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        return partial(self._call, found) if callable(found) else found

    def _call(self, call: Callable[..., Any], *args: Any, **options: Any) -> Any:
        done: Future[Any] = Future()

        def run() -> None:
            try:
                done.set_result(call(*args, **options))
            except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
                done.set_exception(error)

        # A daemon: the end of the process does not wait for a server that never ends its answer.
        threading.Thread(target=run, name="recdistill-registry", daemon=True).start()
        try:
            return done.result(self._limit_s)
        except FutureTimeout:
            if done.done():  # the call's own error
                raise
            raise TimeoutError("the answer timed out") from None


def need_mlflow(uri: str, *, whole: bool) -> None:
    """Makes sure that MLflow is installed: its client is enough for a server, a file needs the whole of it.

    Raises:
        RegistryError: It is not.
    """
    if whole and importlib.util.find_spec("alembic") is None:  # what the client alone does without
        raise RegistryError(
            f"{uri}: a registry in a file needs the whole of MLflow; type: {how_to_install('mlflow')}, or set "
            "registry.uri to the http(s):// address of a server"
        )
    if importlib.util.find_spec("mlflow") is None:
        raise RegistryError(f"mlflow is not installed; type: {how_to_install('registry')}")


def _failures() -> tuple[type[Exception], ...]:
    """What MLflow and its transports raise; a client alone comes without SQLAlchemy."""
    import requests
    from mlflow.exceptions import MlflowException

    found: tuple[type[Exception], ...] = (MlflowException, requests.RequestException, OSError)
    if importlib.util.find_spec("sqlalchemy") is None:
        return found
    from sqlalchemy.exc import SQLAlchemyError

    return (*found, SQLAlchemyError)


@contextlib.contextmanager
def one_at_a_time(uri: str) -> Iterator[None]:
    """Lets one process after the other open a SQLite file. Two that make its tables at once would both fail."""
    if not uri.startswith("sqlite:///"):
        yield
        return
    import sqlite3

    lock = sqlite3.connect(uri.removeprefix("sqlite:///") + ".lock", timeout=60, isolation_level=None)
    try:
        # A second SQLite file works as a lock on every platform, and a killed process frees it.
        lock.execute("BEGIN EXCLUSIVE")
        yield
    except sqlite3.Error as e:
        if disk_is_full(e):
            raise NoRoom(uri, "open the registry") from e
        raise RegistryError(
            f"{uri}: cannot be locked ({e}); another process holds it, or the folder is read-only"
        ) from e
    finally:
        lock.close()


def if_there(call: Callable[..., T], *args: str) -> T | None:
    """The call's result, None when what it asks for does not exist."""
    from mlflow.exceptions import MlflowException

    try:
        return call(*args)
    except MlflowException as e:
        if e.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise


def put(call: Callable[..., object], *args: str) -> None:
    """Sets or removes a tag or an alias, and tries again if another process did the same at that moment.

    MLflow looks whether there is a row, and makes one if not. When two processes look at once, the database refuses the
    slower one. The second time MLflow finds the row. Both write the same, so writing twice does no harm.
    """
    from mlflow.exceptions import MlflowException

    try:
        call(*args)
    except MlflowException as e:
        if e.error_code != "BAD_REQUEST":  # what MLflow makes of a constraint that does not hold
            raise
        call(*args)


def checked_uri(uri: str) -> tuple[str, str | None]:
    """The URI with an absolute path, and where artefacts go (None: the server decides).

    Raises:
        RegistryError: It is neither a SQLite file nor the address of a server.
    """
    if uri.startswith("sqlite:///") and uri != "sqlite:///" and ":memory:" not in uri and "?" not in uri:
        path = Path(uri.removeprefix("sqlite:///")).absolute()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise RegistryError(f"{uri}: its folder cannot be made ({e.strerror})") from e
        if path.is_dir():
            raise RegistryError(f"{uri}: is a folder; name the file to keep the registry in")
        # By itself MLflow would put the artefacts of a SQLite file into ./mlruns of the current folder.
        return f"sqlite:///{path}", (path.parent / "artifacts").as_uri()
    with contextlib.suppress(ValueError):
        parts = urlsplit(uri)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return uri.rstrip("/"), None
    shown = without_credentials(uri)
    raise RegistryError(f"{shown}: not a registry URI; write sqlite:///FILE or an http(s):// address")


def sentence(error: BaseException) -> str:
    """The first line of a foreign error, or what it means where that is known."""
    text = without_credentials(str(error))
    if re.search(r"(code|status|HTTP)\W{0,3}40[13]\b|Unauthorized|Forbidden|UNAUTHENTICATED|PERMISSION_DENIED", text):
        return f"the server refuses this user; {_LOGIN}"
    if found := re.match(r"INTERNAL_ERROR: Response: (\{.*\})", text):  # a refusal in JSON that is not MLflow's own
        return (
            f"the server, or what stands before it, answered only {cut(found[1], 100)}; check the address, and {_LOGIN}"
        )
    if re.search(r"Connection(Error)? ?refused|NewConnectionError|NameResolutionError|Failed to establish", text):
        return "the server does not answer; is it running, and is the address right?"
    if re.search(r"[Tt]imed? ?out|RemoteDisconnected|Connection aborted", text):
        return "the server did not answer in time"
    line = (text.strip().splitlines() or [type(error).__name__])[0]
    return line if len(line) <= 300 else line[:300] + "…"


def metric_key(name: str) -> str:
    """A name that MLflow accepts for a parameter or a metric."""
    return re.sub(r"[^\w/. :-]", "_", name.replace("@", "_at_"))[:250]
