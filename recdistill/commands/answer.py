"""Verbs that answer: serve over HTTP, recommend in the terminal.

They know nothing of how a student answers. Every request is checked by the rules of the endpoint.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recdistill.commands.foreign import try_first
from recdistill.commands.verb import Parser, Verb, between, counted, settings_of, show, stopping, telling
from recdistill.errors import DataError, RecdistillError, RequestError, UsageError
from recdistill.given import MOST, read_bytes
from recdistill.text import cut, printable

if TYPE_CHECKING:
    from recdistill.bundle import Bundle

TIMEOUT_S = 10.0
"""Longest wait for the answer of an endpoint."""


def _serve_options(parser: Parser) -> None:
    parser.add_argument(
        "--bundle",
        type=Path,
        metavar="DIR",
        help="serve the bundle in this folder; no registry is needed (default: serve the champion of the registry)",
    )
    parser.add_argument(
        "--port",
        type=between(0, 65_535),
        metavar="N",
        help="port to answer on; 0: a free one (default: the setting rank.port, 8080 unless you set it)",
    )


def _serve(args: argparse.Namespace) -> int:
    from recdistill.loops import endpoint

    if args.port is not None:
        args.changes.append(f"rank.port={args.port}")
    settings = settings_of(args)

    def started(host: str, port: int) -> None:
        if not args.quiet:
            print(f"serving at http://{host}:{port} until Ctrl-C; the API is at /docs", file=sys.stderr)

    with telling(args, of="recdistill.loops.swap"), stopping() as stop:
        counts = endpoint.serve(settings, stop, bundle=args.bundle, started=started)
    show(args, counts, counted(counts, "there was no request"))
    return 0


def _recommend_options(parser: Parser) -> None:
    parser.add_argument(
        "history", nargs="*", metavar="ITEM", help="ids of items that the user took, oldest first (default: none)"
    )
    parser.add_argument(
        "-k", type=between(1, 1000), default=10, metavar="N", help="how many items to ask for (default: %(default)s)"
    )
    parser.add_argument(
        "--context",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="what is known of the moment, such as device=phone. Give it again for a list of values",
    )
    parser.add_argument(
        "--exclude",
        action="append",
        default=[],
        metavar="ITEM",
        help="id of an item that must not be in the answer. May be given several times",
    )
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="only items with this attribute, such as genre=drama. May be given several times",
    )
    parser.add_argument(
        "--request",
        type=Path,
        metavar="FILE",
        help="file with the whole request as JSON, as for /v1/recommend; - reads standard input",
    )
    whom = parser.add_argument_group("who answers (default: the registry's champion)").add_mutually_exclusive_group()
    whom.add_argument("--bundle", type=Path, metavar="DIR", help="the bundle in this folder answers")
    whom.add_argument("--device", type=Path, metavar="FILE", help="this device file answers")
    whom.add_argument("--url", metavar="URL", help="the ranker at this address answers, such as http://127.0.0.1:8080")


def _recommend(args: argparse.Namespace) -> int:
    body = _body(args)
    if args.url is not None:
        answer = _ask_url(args.url, body)
        return _tell(args, answer, {})
    # The forms of the endpoint, so that a request means the same in both places.
    from recdistill.serve.http import RECOMMEND, Limits, Problem

    try:
        read = RECOMMEND.read(body, Limits())
    except Problem as e:
        raise RequestError(e.field, e.detail) from e
    if read.batch:
        raise RequestError("requests", "only --url takes a batch; write one request")
    request = read.requests[0]
    if args.device is not None:
        return _tell(args, _ask_device(args.device, request), {})
    from recdistill.bundle import open_bundle
    from recdistill.serve import Recommender

    bundle = open_bundle(args.bundle) if args.bundle else _champion(args)
    try_first(settings_of(args), bundle)
    recommender = Recommender(bundle)
    found = recommender.recommend([request], request.k, request.filters())[0]
    titles = {item.id: _title(item.attributes) for item in recommender.bundle.items}
    answer = {
        "items": found.items,
        "scores": found.scores,
        "source": found.source,
        "bundle": found.bundle,
        "unknown_history": found.unknown_history,
    }
    return _tell(args, answer, titles)


def _body(args: argparse.Namespace) -> bytes:
    """The request as JSON, from the file or from the options."""
    if args.request is None:
        body: dict[str, Any] = {"history": [{"item": item} for item in args.history], "k": args.k}
        body |= {"exclude": args.exclude} if args.exclude else {}
        for name in ("context", "where"):
            if pairs := getattr(args, name):
                body[name] = _pairs(f"--{name}", pairs)
        return json.dumps(body).encode()
    if args.history or args.context or args.exclude or args.where:
        raise UsageError("--request: holds the whole request; leave out items, --context, --exclude and --where")
    if str(args.request) != "-":
        return read_bytes(args.request, DataError, advice="give a file with a request in JSON, or - for standard input")
    try:
        return sys.stdin.buffer.read(MOST + 1)
    except OSError as e:
        raise DataError(f"{args.request}: cannot be read ({e.strerror})") from e


def _pairs(option: str, pairs: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise UsageError(f"{option} {pair!r}: must be NAME=VALUE, as in {option} device=phone")
        value = _value(text)
        if name in found:
            before = found[name] if isinstance(found[name], list) else [found[name]]
            found[name] = [*before, value]
        else:
            found[name] = value
    return found


def _value(text: str) -> str | float | bool:
    if text in ("true", "false"):
        return text == "true"
    try:
        number = float(text)
    except ValueError:
        return text
    return number if abs(number) < float("inf") else text


def _champion(args: argparse.Namespace) -> Bundle:
    from recdistill.registry import CHAMPION, Registry

    settings = settings_of(args)
    registry = Registry(settings.registry.uri, settings.registry.name, timeout_s=settings.registry.timeout_s)
    return registry.fetch(registry.resolve(CHAMPION), Path(settings.registry.cache))


def _ask_device(path: Path, request: Any) -> dict[str, Any]:
    from recdistill.device import Device

    if request.where or request.allow is not None:
        raise RequestError("where" if request.where else "allow", "a device file cannot filter; leave it out")
    device = Device.open(path)
    seen = [] if request.repeat else [event.item for event in request.history]
    items, scores = device.recommend(
        [event.item for event in request.history],
        actions=[event.action for event in request.history],
        times_us=[event.time_us for event in request.history],
        time_us=request.time_us,
        context=request.context,
        k=request.k,
        exclude=[*request.exclude, *seen],
    )
    return {"items": items, "scores": scores, "bundle": device.content_hash}


def _ask_url(url: str, body: bytes) -> dict[str, Any]:
    import http.client
    import urllib.parse

    try:
        parts = urllib.parse.urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as e:
        raise UsageError(f"--url {url!r}: is not an address ({e})") from e
    kinds = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
    if parts.scheme not in kinds or not host:
        raise UsageError(f"--url {url!r}: must be http://HOST:PORT or https://HOST:PORT")
    connection = kinds[parts.scheme](host, port, timeout=TIMEOUT_S)
    try:
        path = parts.path.rstrip("/") + "/v1/recommend"
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        status, data = response.status, response.read()
    except UnicodeError as e:  # a host that is no name, or a path in other letters than those of an address
        raise UsageError(f"--url {url!r}: is not an address ({e})") from e
    except (OSError, http.client.HTTPException) as e:
        raise RecdistillError(f"{url}: does not answer ({e}); is it running? `recdistill serve` starts one") from e
    finally:
        connection.close()
    try:
        answer = json.loads(data)
    except ValueError:
        answer = None
    if not isinstance(answer, dict) or (status == 200 and not _is_answer(answer)):
        raise RecdistillError(f"{url}: answered {status} with something that is not a ranker's JSON")
    if status != 200:
        raise RequestError(str(answer.get("field", "")), str(answer.get("detail", f"answered {status}")))
    return answer


def _is_answer(answer: dict[str, Any]) -> bool:
    """Whether it has the form of an answer. That of a batch has no items of its own."""
    items, scores = answer.get("items", []), answer.get("scores", [])
    return (
        isinstance(items, list)
        and isinstance(scores, list)
        and all(isinstance(score, int | float) and not isinstance(score, bool) for score in scores)
    )


def _title(attributes: dict[str, Any]) -> str:
    """The title or name of an item, if it has one."""
    for name in ("title", "name"):
        if isinstance(attributes.get(name), str):
            return cut(printable(attributes[name], ""), 60)
    return ""


def _tell(args: argparse.Namespace, answer: dict[str, Any], titles: dict[str, str]) -> int:
    lines = []
    for place, (item, score) in enumerate(zip(answer.get("items", ()), answer.get("scores", ()), strict=False), 1):
        lines.append(f"{place:3}  {float(score):9.4f}  {item!r:24} {titles.get(item, '')}".rstrip())
    if not lines:
        lines = ["no item passes" if "items" in answer else json.dumps(answer)]
    said = [str(answer[key]) for key in ("source",) if key in answer]
    said.append(f"bundle {str(answer.get('bundle', ''))[:12]}")
    if answer.get("unknown_history"):
        said.append(f"{answer['unknown_history']} items of the history are not in the catalogue")
    show(args, answer, "\n".join([*lines, ", ".join(said)]))
    return 0


VERBS = (
    Verb(
        name="serve",
        purpose="Answer requests over HTTP with the champion: POST /v1/recommend, /v1/rank, /v1/similar.",
        when="It is ready (GET /readyz) when there is a champion. When the champion changes, it changes too, without a "
        "pause. It takes new, changed and withdrawn items from the log while it runs. With --bundle it needs no "
        "registry. It never loads torch. Settings: [rank], [registry], [log].",
        examples=(
            "serve",
            "serve --port 9000",
            "serve --bundle recdistill-data/student/bundles/step-000002000",
        ),
        options=_serve_options,
        run=_serve,
    ),
    Verb(
        name="recommend",
        purpose="Ask for recommendations here: from the champion, a bundle, a device file or a running ranker.",
        when="Use it to see what a student answers. Give the ids of items that the user took. Without any, the user is "
        "unknown and gets popular items.",
        examples=(
            "recommend item-1 item-7 -k 5",
            "recommend --bundle bundles/step-2000 item-1 --context device=phone --where genre=drama",
            "recommend --device device.onnx item-1 --json",
            "recommend --url http://127.0.0.1:8080 --request request.json",
        ),
        options=_recommend_options,
        run=_recommend,
    ),
)
