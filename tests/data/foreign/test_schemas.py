"""A schema registry over real HTTP: what it is asked, and what of its answers is believed."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import pytest
from support.schema_registry import Misbehave, Schemas, schema_registry

from recdistill.data.foreign import Registry
from recdistill.data.foreign.schemas import MAX_ANSWER, UNKNOWN_S, Reference
from recdistill.errors import ConfigError, DataError, SchemaAway

VIEW = {"type": "record", "name": "View", "fields": [{"name": "id", "type": "string"}]}


@pytest.fixture
def schemas() -> Iterator[Schemas]:
    with schema_registry() as found:
        yield found


def answer(body: bytes, status: int = 200, **headers: str) -> Misbehave:
    def send(handler: BaseHTTPRequestHandler) -> bool:
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)
        return True

    return send


def test_a_schema_is_asked_for_once(schemas: Schemas) -> None:
    number = schemas.add(VIEW)
    registry = Registry(schemas.url + "/")
    assert {registry.by_id(number).text for _ in range(5)} == {registry.by_id(number).text}
    assert (registry.by_id(number).kind, schemas.asked) == ("AVRO", [f"/schemas/ids/{number}"])


def test_what_is_unknown_is_asked_again_only_after_a_while(schemas: Schemas) -> None:
    now = [0.0]
    registry = Registry(schemas.url, clock=lambda: now[0])
    for _ in range(5):
        with pytest.raises(DataError, match="does not know schema 1; was the message written with another registry"):
            registry.by_id(1)
    assert len(schemas.asked) == 1
    schemas.add(VIEW)
    now[0] = UNKNOWN_S + 1
    assert registry.by_id(1).kind == "AVRO", "a copy of the registry that was behind has it now"


def test_references_come_before_what_refers_to_them(schemas: Schemas) -> None:
    schemas.add("item", "PROTOBUF", subject="a/b")
    slot = [{"name": "item.proto", "subject": "a/b", "version": 1}]
    schemas.add("slot", "PROTOBUF", subject="slot", references=slot)
    view = schemas.add("view", "PROTOBUF", references=[{"name": "slot.proto", "subject": "slot", "version": 1}, *slot])
    registry = Registry(schemas.url)
    found = registry.with_references(registry.by_id(view, serialized=True), serialized=True)
    assert list(found) == ["item.proto", "slot.proto"]
    assert "/subjects/a%2Fb/versions/1?format=serialized" in schemas.asked


def test_schemas_that_hold_each_other_are_refused(schemas: Schemas) -> None:
    schemas.add("a", "PROTOBUF", subject="a", references=[{"name": "b", "subject": "b", "version": 1}])
    schemas.add("b", "PROTOBUF", subject="b", references=[{"name": "a", "subject": "a", "version": 1}])
    registry = Registry(schemas.url)
    with pytest.raises(DataError, match="refers to itself by 'b'"):
        registry.with_references(registry.by_version(Reference("a", "a", 1)))


@pytest.mark.parametrize(
    ("given", "login"),
    [
        ({"user": "me", "password": "env:PW"}, "Basic " + base64.b64encode(b"me:s3cret").decode()),
        ({"token": "env:PW"}, "Bearer s3cret"),
    ],
)
def test_it_logs_in(schemas: Schemas, given: dict[str, str], login: str) -> None:
    schemas.add(VIEW)
    schemas.login = login
    assert Registry(schemas.url, env={"PW": "s3cret"}, **given).by_id(1).kind == "AVRO"  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"refuses us \(HTTP 401\); set translate.registry.user"):
        Registry(schemas.url).by_id(1)
    with pytest.raises(ConfigError, match="no variable 'PW'"):
        Registry(schemas.url, env={}, **given)  # type: ignore[arg-type]


def test_a_password_goes_to_no_other_server(schemas: Schemas) -> None:
    with schema_registry() as thief:
        thief.add(VIEW)
        schemas.misbehave = answer(b"", 302, Location=f"{thief.url}/schemas/ids/1")
        with pytest.raises(ConfigError, match="sends us to http://127.0.0.1"):
            Registry(schemas.url, token="s3cret").by_id(1)
        assert thief.asked == []


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"<html>", "is not JSON; is it a schema registry"),
        (b"[" * 100_000, "is not JSON"),
        (b"[]", "holds no schema"),
        (b'{"schema": 5}', "holds no schema"),
        (b'{"schema": "x", "references": [{"name": "y"}]}', "a form that is not known"),
        (b'{"schema": "x", "references": 5}', "a form that is not known"),
        (
            b'{"schema": "x", "references": [{"name": "y", "subject": "z", "version": Infinity}]}',
            "a form that is not known",
        ),
        (
            b'{"schema": "x", "references": [{"name": "y", "subject": "\\ud800", "version": 1}]}',
            "a form that is not known",
        ),
        (b'{"schema": "' + b"x" * MAX_ANSWER + b'"}', "in more than 4,194,304 bytes"),
    ],
    ids=["html", "deep", "list", "number", "half", "no list", "endless version", "half a character", "large"],
)
def test_an_answer_that_is_no_schema_is_a_fault_of_the_message(schemas: Schemas, body: bytes, sentence: str) -> None:
    schemas.misbehave = answer(body)
    with pytest.raises(DataError, match=sentence):
        Registry(schemas.url).by_id(1)


def test_a_compressed_answer_is_not_unpacked(schemas: Schemas) -> None:
    schemas.misbehave = answer(b"\x1f\x8b", Content_Encoding="gzip")
    with pytest.raises(DataError, match="compressed, which nobody asked for"):
        Registry(schemas.url).by_id(1)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_registry_that_is_down_is_waited_for(schemas: Schemas, status: int) -> None:
    schemas.misbehave = answer(b"", status)
    registry = Registry(schemas.url)
    with pytest.raises(SchemaAway, match=f"cannot answer now .HTTP {status}"):
        registry.by_id(1)
    schemas.misbehave = lambda _: False
    schemas.add(VIEW)
    assert registry.by_id(1).kind == "AVRO", "and it is asked again at once"


def test_a_registry_that_nobody_answers_for(schemas: Schemas) -> None:
    schemas.misbehave = lambda handler: bool(handler.connection.close()) or True
    with pytest.raises(SchemaAway):
        Registry(schemas.url).by_id(1)
    with pytest.raises(SchemaAway, match="does not answer"):
        Registry("http://127.0.0.1:1").by_id(1)


def test_an_answer_that_drips_is_given_up(schemas: Schemas) -> None:
    def drip(handler: BaseHTTPRequestHandler) -> bool:
        handler.send_response(200)
        handler.end_headers()
        for _ in range(200):
            try:
                handler.wfile.write(b" ")
                handler.wfile.flush()
            except OSError:
                break
            time.sleep(0.05)
        return True

    schemas.misbehave = drip
    began = time.monotonic()
    with pytest.raises(SchemaAway, match=r"does not finish its answer within 0.3 s"):
        Registry(schemas.url, timeout_s=0.3).by_id(1)
    assert time.monotonic() - began < 8


@pytest.mark.parametrize("url", ["registry:8081", "ftp://registry", "http://me:secret@registry", "http://"])
def test_an_address_that_cannot_be_one(url: str) -> None:
    with pytest.raises(ConfigError, match="translate.registry.url"):
        Registry(url)
