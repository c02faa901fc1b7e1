"""The verb `inspect`. It shows records of a topic, a bundle, a device file, a checkpoint or a teacher.

It knows nothing of how records are rendered (`recdistill.records`) or read (`recdistill.loops.inspect`).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recdistill.commands.verb import Parser, Verb, between, settings_of, show
from recdistill.errors import DataError, DecodeError, UsageError
from recdistill.text import cut, printable

if TYPE_CHECKING:
    from recdistill.features import FeatureSpec
    from recdistill.stream import Message


def _options(parser: Parser) -> None:
    parser.add_argument(
        "what",
        metavar="TOPIC|PATH",
        help="a topic: items, impressions, rankings, feedback, examples, bundles or dead-letters. Or the path of a "
        "bundle, a device file, a checkpoint or a trained teacher (write ./name for one in this folder)",
    )
    parser.add_argument(
        "-n", type=between(1), default=10, metavar="N", help="show so many records (default: %(default)s)"
    )
    parser.add_argument("--from-end", action="store_true", help="show the newest records (default: the oldest)")
    parser.add_argument("--partition", type=between(0), metavar="P", help="show only this partition (default: all)")


def _inspect(args: argparse.Namespace) -> int:
    from recdistill.records import DEAD_LETTERS, TOPICS
    from recdistill.stream import BUNDLES

    path = Path(args.what)
    known = [*TOPICS, BUNDLES.topic, DEAD_LETTERS]
    if args.what in known:
        return _topic(args)
    if path.exists():
        return _path(args, path)
    if len(path.parts) > 1 or path.suffix:
        ours = [name for name in known if args.what.endswith(name)]  # as other clients of the brokers call it
        hint = f"; the topic is called {ours[0]!r} here, without log.prefix" if ours else ""
        raise DataError(f"{path}: there is no such file or folder{hint}")
    from recdistill.stream import suggest

    hint = suggest(args.what, known)
    raise UsageError(f"{args.what!r} is neither a topic{hint} nor a path; topics are {', '.join(known)}")


# Topics


def _topic(args: argparse.Namespace) -> int:
    from recdistill.loops import inspect
    from recdistill.stream import open_log

    settings = settings_of(args)
    with closing(open_log(settings.log)) as log:
        messages = inspect.look(log, args.what, args.n, newest=args.from_end, partition=args.partition)
    now_us = time.time_ns() // 1000
    for message in messages:
        if args.json:
            print(json.dumps(_as_json(message)))
        else:
            print(f"── {message.tp} offset {message.offset}")
            print(_as_text(message, now_us), end="\n\n")
    if not messages and not args.json:
        print(f"{args.what} holds nothing yet")
    return 0


def _as_json(message: Message) -> dict[str, Any]:
    from recdistill.records import DEAD_LETTERS, TOPICS, decode, decode_item, to_json
    from recdistill.stream import BUNDLES, ITEMS, read_made, write_made

    shown: dict[str, Any] = {
        "topic": message.tp.topic,
        "partition": message.tp.partition,
        "offset": message.offset,
        "time_us": message.time_us,
    }
    if message.tp.topic == DEAD_LETTERS:
        headers = _headers(message)
        if "sent" in headers:
            return {**shown, "sent_again": headers.get("letter")}
        return {
            **shown,
            **{f"from_{name}": headers.get(name) for name in _FROM},
            "bytes": len(message.value or b""),
        } | ({"whole_bytes": headers["bytes"], "whole_sha256": headers.get("sha256")} if "bytes" in headers else {})
    try:
        if message.tp == BUNDLES:
            return {**shown, "record": json.loads(write_made(read_made(message.value)))}
        if message.tp == ITEMS and message.value is None:
            return {**shown, "withdrawn": decode_item(message.key, None).id}
        return {**shown, "record": json.loads(to_json(decode(TOPICS[message.tp.topic], message.value)))}
    except DecodeError as e:
        return {**shown, "error": str(e)}


_FROM = ("topic", "partition", "offset", "stage", "error")


def _headers(message: Message) -> dict[str, str]:
    return {name: value.decode(errors="replace") for name, value in message.headers}


def _as_text(message: Message, now_us: int) -> str:
    from recdistill.records import DEAD_LETTERS, TOPICS, decode, decode_item, render
    from recdistill.stream import BUNDLES, ITEMS, read_made

    if message.tp.topic == DEAD_LETTERS:
        headers = _headers(message)
        if "sent" in headers:
            return printable(f"letter {headers.get('letter', '?')} was sent again")
        where = f"{headers.get('topic', '?')}/{headers.get('partition', '?')} offset {headers.get('offset', '?')}"
        came = f"from {where}" if "offset" in headers else f"of what was for {headers.get('topic', '?')}"
        value = message.value or b""
        lines = [
            f"dead letter {came}",
            f"  given up by  {headers.get('stage', '?')}",
            f"  because      {headers.get('error', '?')}",
            f"  bytes        {len(value):,}: {value[:60]!r}{'…' if len(value) > 60 else ''}",
        ]
        if "bytes" in headers:  # the letter holds the beginning only
            still = f"; it is at {where} until retention deletes it" if "offset" in headers else ""
            lines.append(f"  the whole    {headers['bytes']} bytes, SHA-256 {headers.get('sha256', '?')}{still}")
        # Headers may hold foreign text, so characters that control a terminal are removed.
        return "\n".join(map(printable, lines))
    try:
        if message.tp == BUNDLES:
            made = read_made(message.value)
            line = f"  bundle {made.content_hash[:12]} of step {made.step}: {made.size:,} bytes, made at {made.made_at}"
            return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)
        if message.tp == ITEMS and message.value is None:
            return f"  {decode_item(message.key, None).id!r} is withdrawn (a tombstone: a key without a value)"
        return render(decode(TOPICS[message.tp.topic], message.value), now_us=now_us)
    except DecodeError as e:
        return f"  cannot be read: {e}"


# Files


def _path(args: argparse.Namespace, path: Path) -> int:
    if path.is_file():
        if path.suffix != ".onnx":
            raise DataError(f"{path}: is not a device file (FILE.onnx); a bundle and a checkpoint are folders")
        shown = _device(path)
    elif (path / "tensors.safetensors").exists():
        shown = _checkpoint(path)
    elif (path / "teacher.json").exists():
        shown = _teacher(path)
    elif (path / "manifest.json").exists():
        shown = _bundle(path)
    else:
        raise DataError(f"{path}: holds no bundle (manifest.json), checkpoint (tensors.safetensors) or teacher.json")
    show(args, shown, "\n".join(_lines(shown)))
    return 0


def _lines(shown: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    width = max(map(len, shown), default=0)
    for name, value in shown.items():
        if isinstance(value, dict) and value:
            yield f"{indent}{name}"
            yield from _lines(value, indent + "  ")
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
            yield f"{indent}{name:{width}}  {cut(printable(text), 200)}"


def _bundle(path: Path) -> dict[str, Any]:
    import msgspec

    from recdistill.bundle import open_bundle

    bundle = open_bundle(path)
    content = bundle.manifest.content
    return {
        "kind": "bundle",
        "content_hash": bundle.content_hash,
        "items": content.items,
        "dim": content.dim,
        "bytes": bundle.size,
        "index": msgspec.to_builtins(content.index),
        "base_position": content.base_position,
        "int8_max_abs_error": content.int8_max_abs_error,
        "golden": content.golden,
        "popular": [item for item, _ in bundle.popular[:10]],
        "features": _features(bundle.spec),
        "files": {name: entry.size for name, entry in bundle.manifest.files.items()},
        "provenance": bundle.manifest.provenance,
    }


def _device(path: Path) -> dict[str, Any]:
    from recdistill.device import Device

    device = Device.open(path)
    return {
        "kind": "device file",
        "content_hash": device.content_hash,
        "items": device.items,
        "bytes": path.stat().st_size,
    }


def _checkpoint(path: Path) -> dict[str, Any]:
    from recdistill import checkpoint

    found = checkpoint.load(path)
    return {
        "kind": "checkpoint",
        "step": found.step,
        "bytes": sum(file.stat().st_size for file in path.iterdir()),
        "tensors": {name: f"{value.dtype} {list(value.shape)}" for name, value in sorted(found.tensors.items())},
        "state": sorted(found.state),
        **_history(found.state.get("stream", {}).get("events", [])),
    }


def _history(events: list[dict[str, Any]]) -> dict[str, Any]:
    """From which step on settings of a student were changed, and how."""
    from recdistill.loops.distil import changed

    pairs = pairwise(events)
    found = {f"step {now['step']}": changed(before["recipe"], now["recipe"]) for before, now in pairs}
    return {"settings_changed": found} if found else {}


def _teacher(path: Path) -> dict[str, Any]:
    import msgspec

    from recdistill.teachers.builtin import files as builtin_files

    saved, version, arrays = builtin_files.read(path)
    return {
        "kind": "teacher",
        "version": version,
        "bytes": sum(file.stat().st_size for file in path.iterdir()),
        "towers": msgspec.to_builtins(saved.towers),
        "features": _features(saved.spec),
        "tensors": {name: f"{value.dtype} {list(value.shape)}" for name, value in sorted(arrays.items())},
    }


def _features(spec: FeatureSpec) -> dict[str, Any]:
    import msgspec

    return {
        "history": msgspec.to_builtins(spec.history),
        "item": {name: field.kind for name, field in spec.item.items()},
        "context": {name: field.kind for name, field in spec.context.items()},
    }


VERBS = (
    Verb(
        name="inspect",
        purpose="Show records of a topic as text, or what is in a bundle, a checkpoint or another file of recdistill.",
        when="Use it first when figures surprise you. It changes nothing: every process goes on where it was. Of "
        "dead-letters it shows where each record came from, and why it could not be used. A file is checked for damage "
        "when it is opened. With --json, each record is one line.",
        examples=(
            "inspect rankings -n 3",
            "inspect dead-letters --from-end",
            "inspect examples --json -n 1000 | head",
            "inspect recdistill-data/student/bundles/step-000002000",
        ),
        options=_options,
        run=_inspect,
    ),
)
