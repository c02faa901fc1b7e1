"""Schemas by their ids, from a registry that speaks Confluent's protocol.

`GET /schemas/ids/N` gives the schema of an id, and `GET /subjects/S/versions/V` one that another schema refers to.
Each is asked for once. Also what the registry does not know is remembered, for a short time, so that a topic of
garbage does not ask it for each message.

Nothing that it answers is trusted. An answer has a largest size and a longest time, it must be JSON of the known form,
and a redirect is not followed, so a password goes to no other server.

It knows nothing of Avro or protobuf.

Example:
    >>> secret("env:TOKEN", {"TOKEN": "s3cret"}), secret("plain", {})
    ('s3cret', 'plain')
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from recdistill.errors import ConfigError, DataError, SchemaAway
from recdistill.given import check_file
from recdistill.text import cut, escaped

Decode = Callable[[bytes], dict[str, Any]]
"""The value of a message -> its fields. It raises DataError, or SchemaAway."""

MAX_ANSWER: Final = 4 << 20
"""Bytes of one answer."""

MAX_KNOWN: Final = 4_096
"""Schemas that are kept."""

MAX_FILES: Final = 200
"""Schemas that one schema refers to."""

UNKNOWN_S: Final = 30.0
"""How long an id counts as unknown. A new schema may reach a copy of the registry later than its first message."""

_NO_SCHEMA: Final = 404
_NO_RIGHT: Final = frozenset({401, 403, 407})
_CHUNK: Final = 1 << 16


class Reference(NamedTuple):
    """A schema that another one refers to, under a name of its own."""

    name: str
    subject: str
    version: int


class Schema(NamedTuple):
    """A schema as the registry has it."""

    kind: str
    """AVRO, PROTOBUF or JSON."""
    text: str
    references: tuple[Reference, ...] = ()


class Registry:
    """A registry. One thread may use it at a time.

    Args:
        url: Its address, `https://host:8081`.
        user: For basic authentication, with `password`; "env:NAME" takes a variable of the environment.
        password: As `user`.
        token: For bearer authentication, instead of both.
        ca_file: Certificates to trust, beside those of the system.
        timeout_s: Longest time for one answer.
        env: The environment; None takes that of the process.
        clock: Seconds.

    Raises:
        ConfigError: The address or a secret does not fit.
    """

    def __init__(
        self,
        url: str,
        *,
        user: str = "",
        password: str = "",
        token: str = "",
        ca_file: str = "",
        timeout_s: float = 10.0,
        env: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            raise ConfigError(
                "translate.registry.url: must be an address such as https://registry:8081; a user and a password "
                "have keys of their own"
            )
        env = os.environ if env is None else env
        self._url, self._timeout_s, self._clock = url.rstrip("/"), timeout_s, clock
        self._headers = {
            "Accept": "application/vnd.schemaregistry.v1+json, application/json",
            "Accept-Encoding": "identity",
            "User-Agent": "recdistill",
        }
        user, password, token = (secret(one, env) for one in (user, password, token))
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        elif user or password:
            self._headers["Authorization"] = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        handlers: list[Any] = [_NoRedirect(), urllib.request.ProxyHandler({})]
        if parts.scheme == "https":
            handlers.append(urllib.request.HTTPSHandler(context=_tls(ca_file)))
        self._open = urllib.request.build_opener(*handlers).open
        self._known: OrderedDict[str, Schema] = OrderedDict()
        self._unknown: OrderedDict[str, tuple[float, str]] = OrderedDict()

    def by_id(self, number: int, *, serialized: bool = False) -> Schema:
        """The schema of an id.

        Args:
            number: The id.
            serialized: protobuf: as base64 of its descriptor, not as text.

        Raises:
            DataError: The registry knows none, or its answer is not one.
            SchemaAway: It does not answer.
        """
        return self._schema(f"/schemas/ids/{number}{_FORMAT if serialized else ''}", f"schema {number}")

    def by_version(self, reference: Reference, *, serialized: bool = False) -> Schema:
        """The schema that another one refers to; see `by_id`."""
        subject = urllib.parse.quote(reference.subject, safe="")
        path = f"/subjects/{subject}/versions/{reference.version}{_FORMAT if serialized else ''}"
        return self._schema(path, f"version {reference.version} of {cut(escaped(reference.subject), 80)}")

    def with_references(self, schema: Schema, *, serialized: bool = False) -> dict[str, Schema]:
        """All schemas that a schema rests on, by the names by which they are referred to, the deepest first.

        Raises:
            DataError: They are too many, or they hold each other.
            SchemaAway: The registry does not answer.
        """
        found: dict[str, Schema] = {}
        under: set[str] = set()

        def follow(one: Schema) -> None:
            for reference in one.references:
                if reference.name in found:
                    continue
                if reference.name in under:
                    raise DataError(f"its schema refers to itself by {cut(escaped(reference.name), 80)!r}")
                if len(found) + len(under) >= MAX_FILES:
                    raise DataError(f"its schema refers to more than {MAX_FILES} others")
                under.add(reference.name)
                other = self.by_version(reference, serialized=serialized)
                follow(other)
                under.discard(reference.name)
                found[reference.name] = other

        follow(schema)
        return found

    def _schema(self, path: str, what: str) -> Schema:
        if path in self._known:
            self._known.move_to_end(path)
            return self._known[path]
        now_s = self._clock()
        until_s, why = self._unknown.get(path, (now_s, ""))
        if now_s < until_s:
            raise DataError(why)
        try:
            schema = _read(self._get(path, what), what)
        except DataError as e:
            _keep(self._unknown, path, (now_s + UNKNOWN_S, str(e)))
            raise
        _keep(self._known, path, schema)
        return schema

    def _get(self, path: str, what: str) -> bytes:
        where = f"the schema registry {self._url}"
        deadline_s = time.monotonic() + self._timeout_s
        request = urllib.request.Request(self._url + path, headers=self._headers)  # noqa: S310 - http or https, checked
        try:
            with self._open(request, timeout=self._timeout_s) as answer:
                if answer.headers.get("Content-Encoding", "identity") != "identity":
                    raise DataError(f"{where} gives {what} compressed, which nobody asked for")
                parts: list[bytes] = []
                size = 0
                while part := answer.read1(_CHUNK):
                    size += len(part)
                    if size > MAX_ANSWER:
                        raise DataError(f"{where} gives {what} in more than {MAX_ANSWER:,} bytes")
                    if time.monotonic() > deadline_s:
                        raise SchemaAway(f"{where} does not finish its answer within {self._timeout_s:g} s")
                    parts.append(part)
                return b"".join(parts)
        except urllib.error.HTTPError as e:
            with e:
                raise _refusal(where, what, e) from None
        except (OSError, ValueError, EOFError, urllib.error.URLError) as e:
            reason = getattr(e, "reason", e)
            if isinstance(reason, ssl.SSLCertVerificationError):
                raise ConfigError(
                    f"{where}: its certificate is not trusted ({reason.verify_message}); set translate.registry.ca_file"
                ) from None
            raise SchemaAway(f"{where} does not answer ({cut(escaped(str(reason)), 120)})") from None
        except http.client.HTTPException as e:
            raise SchemaAway(f"{where} breaks its answer off ({type(e).__name__})") from None


def secret(text: str, env: Mapping[str, str]) -> str:
    """A secret, or the variable of the environment that holds it.

    Raises:
        ConfigError: There is no such variable, or a line end in it.
    """
    if text.startswith("env:"):
        name = text.removeprefix("env:")
        if name not in env:
            raise ConfigError(f"translate.registry: the environment has no variable {name!r}; set it")
        text = env[name]
    if "\n" in text or "\r" in text:
        raise ConfigError("translate.registry: a secret has a line end; is it the whole file?")
    return text


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _tls(ca_file: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if ca_file:
        check_file(Path(ca_file), advice="set translate.registry.ca_file to certificates in PEM form")
        try:
            context.load_verify_locations(ca_file)
        except (OSError, ssl.SSLError) as e:
            raise ConfigError(f"translate.registry.ca_file: {ca_file} cannot be used ({e})") from None
    return context


def _refusal(where: str, what: str, error: urllib.error.HTTPError) -> Exception:
    if error.code == _NO_SCHEMA:
        return DataError(f"{where} does not know {what}; was the message written with another registry?")
    if error.code in _NO_RIGHT:
        return ConfigError(
            f"{where} refuses us (HTTP {error.code}); set translate.registry.user and password, or token"
        )
    if 300 <= error.code < 400:
        place = cut(escaped(error.headers.get("Location", "somewhere else")), 200)
        return ConfigError(f"{where} sends us to {place}; set translate.registry.url to the right address")
    if error.code in (408, 429) or error.code >= 500:
        return SchemaAway(f"{where} cannot answer now (HTTP {error.code})")
    return DataError(f"{where} refuses to give {what} (HTTP {error.code})")


def _read(body: bytes, what: str) -> Schema:
    try:
        tree = json.loads(body)
    except (ValueError, RecursionError):
        raise DataError(f"the answer of the schema registry for {what} is not JSON; is it a schema registry?") from None
    if not isinstance(tree, dict) or not isinstance(tree.get("schema"), str):
        raise DataError(f"the answer of the schema registry for {what} holds no schema")
    kind = tree.get("schemaType", "AVRO")
    references = tree.get("references") or []
    try:
        if not isinstance(kind, str) or not isinstance(references, list):
            raise TypeError
        found = tuple(Reference(str(one["name"]), str(one["subject"]), int(one["version"])) for one in references)
        "".join(one.name + one.subject for one in found).encode()  # half a surrogate pair can stand in no address
    except (KeyError, TypeError, ValueError, OverflowError):  # OverflowError: a version of Infinity
        raise DataError(f"the answer of the schema registry for {what} has a form that is not known") from None
    return Schema(kind, tree["schema"], found)


def _keep(memory: OrderedDict[str, Any], key: str, value: Any) -> None:
    memory[key] = value
    while len(memory) > MAX_KNOWN:
        memory.popitem(last=False)


_FORMAT: Final = "?format=serialized"
