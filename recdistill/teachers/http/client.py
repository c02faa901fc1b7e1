"""Requests to one server: with a limit of requests at once, timeouts, retries, and a pause while the server is down.

There are three errors. `Refused`: the server read the request and did not accept it. `Unsure`: no answer came, perhaps
because this request was too much for the server. `Unavailable`: the server cannot be asked now; the request is not the
reason. After `Unavailable` a caller can wait. After the other two it can divide the request.

An answer has a largest size and is never decompressed. Redirects are not followed, so headers go only to the server of
the settings. Of the environment, only the variables that the settings name are used.

It knows nothing of what the requests mean.

Example:
    >>> headers_of({"Authorization": "Bearer env:TOKEN"}, {"TOKEN": "s3cret"})
    {'Authorization': 'Bearer s3cret'}
"""

from __future__ import annotations

import asyncio
import email.utils
import json
import logging
import random
import re
import ssl
import threading
import time
import weakref
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx

from recdistill.errors import ConfigError, TeacherError
from recdistill.given import check_file
from recdistill.teachers.http.server import ModelServer
from recdistill.text import printable

log_ = logging.getLogger(__name__)

T = TypeVar("T")

SECTION: Final = "teacher.http"
_LONGEST_PAUSE_S: Final = 300.0
"""If a server asks for a longer pause, it is asked again after this time."""
_CONNECT_S: Final = 5.0
_EXCERPT: Final = 200  # characters of a refusal that are shown
_UNREADABLE: Final = 2_000  # bytes of a refusal that are read
_NOT_THE_CONTENT: Final = frozenset({401, 403, 404, 405, 407, 410, 421, 426})
"""Statuses for a wrong address or wrong credentials. Another content would not help."""


class Unavailable(TeacherError):
    """The server cannot be asked now, or it does not accept us."""


class Refused(Exception):
    """The server did not accept this content, or its answer cannot be read."""

    def __init__(self, problem: str, *, status: int = 200) -> None:
        super().__init__(problem)
        self.status = status


class Unsure(Exception):
    """No answer came. The server may be down, or this content may be too much for it."""


@dataclass
class _Again(Exception):
    """The request may be tried again, after `pause_s` if the server named a pause. If it is not, `error` is raised."""

    error: Exception
    pause_s: float | None = None


class Breaker:
    """Stops requests after some failures in a row.

    Closed: requests go through. Open: they do not. Half-open: one may try.

    Args:
        failures: How many.
        open_s: For how long.
    """

    def __init__(self, failures: int, open_s: float) -> None:
        self._most, self._open_s = failures, open_s
        self._failures = 0
        self._until = 0.0
        self.trial = asyncio.Lock()

    @property
    def closed(self) -> bool:
        """Whether requests go through."""
        return self._failures < self._most

    def wait_s(self) -> float:
        """How long it stays open; 0 if one request may try."""
        return 0.0 if self.closed else max(0.0, self._until - time.monotonic())

    def succeeded(self) -> None:
        """The server answered."""
        self._failures = 0

    def failed(self) -> None:
        """The server did not answer, or said that it cannot."""
        self._failures += 1
        if not self.closed:
            self._until = time.monotonic() + self._open_s


class HttpClient:
    """A client of one server. It has an event loop in its own thread; `run` runs a coroutine there.

    Both end with `close`, or when the client is garbage-collected.

    Args:
        settings: The address, and how to send requests.
        env: The environment.

    Raises:
        ConfigError: The settings do not fit, or name an environment variable or a file that does not exist.
    """

    def __init__(self, settings: ModelServer, env: Mapping[str, str]) -> None:
        self._settings = settings
        url = _checked_url(settings.url)
        headers = headers_of(settings.headers, env)
        self._secrets = [headers[name] for name, value in settings.headers.items() if value != headers[name]]
        self._secrets += [secret.rpartition(" ")[2] for secret in self._secrets]
        self._server = f"{url.scheme}://{url.netloc.decode()}"
        self._breaker = Breaker(settings.breaker_failures, settings.breaker_s)
        self._slots = asyncio.Semaphore(settings.concurrency)
        self._pause_until = 0.0
        # Otherwise each request would write a line to the log, with its whole address.
        if logging.getLogger("httpx").level == logging.NOTSET:
            logging.getLogger("httpx").setLevel(logging.WARNING)
        try:
            client = httpx.AsyncClient(
                headers={"User-Agent": "recdistill", "Accept-Encoding": "identity", **headers},
                verify=_tls(settings) if url.scheme == "https" else False,
                timeout=httpx.Timeout(None, connect=min(_CONNECT_S, 0.8 * settings.timeout_s)),
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=settings.concurrency),
                proxy=settings.proxy or None,
                follow_redirects=False,
                trust_env=False,
            )
        except (ValueError, httpx.InvalidURL) as e:
            raise ConfigError(f"{SECTION}.proxy: {e}") from e
        self._client = client
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=_live, args=(self._loop,), name="recdistill-http", daemon=True).start()
        self.close = weakref.finalize(self, _end, self._loop, client)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine on the client's loop, from any other thread, and returns its result."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # Ctrl-C also ends the requests that are running
            raise

    async def ask(self, method: str, url: str, body: bytes | None, *, until: float | None, retry: bool = True) -> Any:
        """Sends a request, and sends it again while that may help. Returns the content of the JSON answer.

        Args:
            method: GET or POST.
            url: The whole address.
            body: JSON to send.
            until: End of the time allowed, as `time.monotonic()`; None for no limit.
            retry: Whether to try again at all.

        Raises:
            Unavailable: The server cannot be asked now.
            Refused: It did not accept this content, or its answer cannot be read.
            Unsure: No answer came.
        """
        attempt = 0
        while True:
            try:
                return await self._admitted(method, url, body, until)
            except _Again as again:
                attempt += 1
                pause_s = random.uniform(0, self._settings.backoff_s * 2 ** (attempt - 1))
                if again.pause_s is not None:
                    self._pause_until = time.monotonic() + min(again.pause_s, _LONGEST_PAUSE_S)
                    pause_s += min(again.pause_s, _LONGEST_PAUSE_S)
                late = until is not None and time.monotonic() + pause_s >= until
                if not retry or attempt > self._settings.retries or late:
                    raise again.error from again
                log_.debug("%s: %s; again in %.2f s", self._server, again.error, pause_s)
            await asyncio.sleep(pause_s)

    async def _admitted(self, method: str, url: str, body: bytes | None, until: float | None) -> Any:
        if self._breaker.closed:
            return await self._counted(method, url, body, until)
        async with self._breaker.trial:  # one request tries, and the others wait for its result
            if (wait_s := self._breaker.wait_s()) > 0:
                raise Unavailable(
                    f"{self._server} failed {self._settings.breaker_failures} times in a row and is not asked until "
                    f"{_clock(wait_s)}"
                )
            return await self._counted(method, url, body, until)

    async def _counted(self, method: str, url: str, body: bytes | None, until: float | None) -> Any:
        if (pause_s := self._pause_until - time.monotonic()) > 0:
            if until is not None and self._pause_until >= until:
                raise Unavailable(f"{self._server} wants no request until {_clock(pause_s)}")
            await asyncio.sleep(pause_s)
        try:
            answer = await self._once(method, url, body, until)
        except Refused:
            self._breaker.succeeded()  # the server works: it read the request
            raise
        except _Again as again:
            if not isinstance(again.error, _Busy):
                self._breaker.failed()
            raise
        except Unsure:
            self._breaker.failed()
            raise
        self._breaker.succeeded()
        return answer

    async def _once(self, method: str, url: str, body: bytes | None, until: float | None) -> Any:
        """One request and its whole answer."""
        headers = {"Content-Type": "application/json"} if body is not None else {}
        deadline = asyncio.timeout(None if until is None else max(0.0, until - time.monotonic()))
        try:
            async with (
                deadline,
                self._slots,
                asyncio.timeout(self._settings.timeout_s),
                self._client.stream(method, url, content=body, headers=headers) as response,
            ):
                return await self._read(response)
        except httpx.ConnectError as e:
            if "CERTIFICATE_VERIFY_FAILED" in str(e):
                raise Unavailable(
                    f"{self._server}: its certificate is not trusted ({_line(str(e))}); name its authority in "
                    f"{SECTION}.ca_file"
                ) from e
            raise _Again(Unavailable(f"{self._server}: no connection ({_line(str(e)) or 'refused'})")) from e
        except (httpx.ConnectTimeout, httpx.ProxyError) as e:
            raise _Again(Unavailable(f"{self._server}: no connection ({_line(str(e)) or 'no answer'})")) from e
        except httpx.TransportError as e:
            why = _line(str(e)) or type(e).__name__
            raise _Again(Unsure(f"{self._server}: the connection ended before the answer did ({why})")) from e
        except TimeoutError as e:
            if deadline.expired():
                raise Unavailable(f"{self._server}: did not answer before the deadline") from e
            raise Unsure(f"{self._server}: did not answer within {self._settings.timeout_s:g} s") from e

    async def _read(self, response: httpx.Response) -> Any:
        status = response.status_code
        if 200 <= status < 300:
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise Refused("the answer is compressed, but the request asked for no compression")
            body = await _body(response, self._settings.max_answer_bytes)
            if len(body) > self._settings.max_answer_bytes:
                most = self._settings.max_answer_bytes
                raise Refused(f"the answer has more than {SECTION}.max_answer_bytes = {most} bytes")
            try:
                return json.loads(body)
            except (ValueError, RecursionError) as e:
                raise Refused(f"the answer is not JSON ({_line(str(e))})") from e
        if 300 <= status < 400:
            to = self._shown(response.headers.get("Location", ""))
            raise Unavailable(f"{self._server}: redirects to {to!r}; if that is right, put it into {SECTION}.url")
        said = self._shown((await _body(response, _UNREADABLE))[:_UNREADABLE].decode(errors="replace"))
        problem = f"{self._server}: answered {status}{f': {said}' if said else ''}"
        if status in (401, 403, 407):
            raise Unavailable(f"{problem}; look at {SECTION}.headers")
        if status in _NOT_THE_CONTENT:
            raise Unavailable(f"{problem}; look at {SECTION}.url and {SECTION}.model")
        if status == 429:
            raise _Again(_Busy(problem), _retry_after(response.headers.get("Retry-After")))
        if status == 503:
            raise _Again(Unavailable(problem), _retry_after(response.headers.get("Retry-After")))
        if status in (502, 504):
            raise _Again(Unsure(problem))
        raise Refused(problem, status=status)

    def _shown(self, text: str) -> str:
        """The beginning of a text from the server, on one line, without the secrets that we sent."""
        for secret in self._secrets:
            text = text.replace(secret, "***") if len(secret) > 3 else text
        return _line(text)


class _Busy(Unavailable):
    """The server works, but it wants fewer requests."""


def headers_of(headers: Mapping[str, str], env: Mapping[str, str]) -> dict[str, str]:
    """Fills in the parts of headers that come from the environment.

    Raises:
        ConfigError: A variable is missing, or a name or value is not allowed in a header. Values are never shown.
    """
    filled = {}
    for name, value in headers.items():
        at = f"{SECTION}.headers.{name}"
        if found := re.search(r"(?:^|(?<= ))env:(\w+)$", value):
            if not env.get(found[1]):
                raise ConfigError(f"{at}: the environment has no {found[1]}; set it, or leave the header out")
            value = value[: found.start()] + env[found[1]].strip()
        if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name):
            raise ConfigError(f"{SECTION}.headers: {name!r} is no name of a header")
        if not re.fullmatch(r"[\x20-\x7e]*", value):
            raise ConfigError(f"{at}: its value has characters that cannot stand in a header")
        filled[name] = value
    return filled


def _checked_url(text: str) -> httpx.URL:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as e:
        raise ConfigError(f"{SECTION}.url: {e}") from e
    if url.scheme not in ("http", "https") or not url.host:
        raise ConfigError(f"{SECTION}.url: {text!r} is not of the form http://host:port or https://host")
    if url.userinfo or url.fragment:
        raise ConfigError(f"{SECTION}.url: must hold neither a password nor a '#'; put credentials into headers")
    return url


def _tls(settings: ModelServer) -> ssl.SSLContext:
    for name in ("ca_file", "client_cert", "client_key"):
        if path := getattr(settings, name):
            check_file(Path(path), advice=f"set {SECTION}.{name} to a file in PEM form")
    try:
        context = ssl.create_default_context(cafile=settings.ca_file or None)
    except (OSError, ssl.SSLError) as e:
        raise ConfigError(f"{SECTION}.ca_file: {settings.ca_file} holds no certificates in PEM form ({e})") from e
    if not settings.verify:
        log_.warning("%s.verify is off: any server at this address is trusted", SECTION)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if settings.client_cert:
        try:
            # Give an empty password, so that an encrypted key is an error and not a question at the terminal.
            context.load_cert_chain(settings.client_cert, settings.client_key or None, password="")
        except (OSError, ssl.SSLError) as e:
            raise ConfigError(
                f"{SECTION}.client_cert: {settings.client_cert} is no certificate with its unencrypted key ({e})"
            ) from e
    return context


async def _body(response: httpx.Response, most: int) -> bytes:
    """The body. If it is longer than `most` bytes, a little more than `most` bytes of it."""
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > most:
            break
    return bytes(body)


def _retry_after(value: str | None) -> float | None:
    """Seconds that a Retry-After header asks for. The header holds seconds or a date."""
    if value is None:
        return None
    if re.fullmatch(r"[0-9]{1,9}", value.strip()):
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def _clock(seconds: float) -> str:
    """The local time after so many seconds."""
    return time.strftime("%H:%M:%S", time.localtime(time.time() + seconds))


def _line(text: str) -> str:
    return " ".join(printable(text, " ").split())[:_EXCERPT]


def _live(loop: asyncio.AbstractEventLoop) -> None:
    """Runs in a client's thread until the loop is stopped."""
    loop.run_forever()
    loop.close()


def _end(loop: asyncio.AbstractEventLoop, client: httpx.AsyncClient) -> None:
    """Closes connections and loop, but does not wait: it may be called on the loop's own thread."""

    async def close() -> None:
        await client.aclose()
        loop.stop()

    asyncio.run_coroutine_threadsafe(close(), loop)
