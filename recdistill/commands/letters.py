"""The verb `dead-letters`: lists, explains, mends and sends again what a stage could not use.

It knows nothing of how a letter is marked as sent; `recdistill.loops.letters` does.

Example:
    >>> changed({"id": "f", "slots": [{"sku": 1}]}, ["item=sku-1", "slots.0.sku=2"], {})
    {'id': 'f', 'slots': [{'sku': 2}], 'item': 'sku-1'}
"""

from __future__ import annotations

import argparse
import base64
import binascii
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from recdistill.commands.translate import one_topic, topic_options
from recdistill.commands.verb import Parser, Verb, between, one_of, place, settings_of, show
from recdistill.errors import DataError, OutputError, UsageError
from recdistill.text import cut, printable

if TYPE_CHECKING:
    from recdistill.loops import letters
    from recdistill.stream import Log

_ACTIONS = ("list", "explain", "mend", "send")
_ADVICE = {
    "AheadOfTime": "its time is wrong, or the times of the others are: put it right (mend), or raise join.max_ahead_s; "
    "feedback that is sent after its window gives no label",
    "TeacherError": "the teacher failed on this list alone: send it again once the teacher can score it",
    "Unwritable": "the log did not take what was made of it: raise max.message.bytes of the topic, or make it smaller",
    "DecodeError": "the record breaks a rule, which the reason names: put it right (mend), and its producer too",
    "DataError": "the reason names the field: mend the mapping or the record, then send it again",
}


_ODD: Final = re.compile(r"[\x85\u2028\u2029\ud800-\udfff]")
"""Characters that some programs take for the end of a line, and halves of pairs, which UTF-8 does not have."""


def _options(parser: Parser) -> None:
    parser.add_argument(
        "action",
        nargs="?",
        type=one_of(*_ACTIONS),
        default="list",
        metavar="list|explain|mend|send",
        help="list: show which letters there are. explain: show all of a letter. mend: write letters into a file, so "
        "that you can correct them there. send: send letters again, or the letters of a corrected file (default: list)",
    )
    parser.add_argument(
        "what",
        nargs="*",
        metavar="NUMBER|FILE",
        help="numbers of letters, as `list` shows them; with send also a file that `mend` wrote (default: the letters "
        "that --stage, --reason, --since, --until or --all choose)",
    )
    parser.add_argument(
        "--stage", metavar="STAGE", help="only letters of this stage, such as translate, score or join (default: all)"
    )
    parser.add_argument("--reason", metavar="TEXT", help="only letters whose reason contains this text (default: all)")
    parser.add_argument(
        "--since",
        type=place,
        metavar="TIME",
        help="only letters written at this time or later, such as 2026-01-31T12:00Z (default: all)",
    )
    parser.add_argument(
        "--until", type=place, metavar="TIME", help="only letters written before this time (default: all)"
    )
    parser.add_argument("--all", action="store_true", help="also letters that were sent again already (default: not)")
    parser.add_argument(
        "-n", type=between(1), default=20, metavar="N", help="with list: show the newest N (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="with mend: the file to write, a new one")
    parser.add_argument(
        "--change",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="with mend and send: set this field to this value in each letter. May be given several times",
    )
    topic_options(parser)


def _letters(args: argparse.Namespace) -> int:
    from recdistill.loops import letters, translators
    from recdistill.stream import open_log

    one_topic(args)
    settings = settings_of(args)
    theirs = translators.understood_by(settings) if args.action != "list" else {}
    file = Path(args.what[0]) if args.action == "send" and args.what and not args.what[0].isdecimal() else None
    if file is not None and (len(args.what) > 1 or args.change):
        raise UsageError("send: takes one file of mended letters, without --change; or numbers of letters")
    with closing(open_log(settings.log)) as log:
        found = letters.read(log, records=args.action != "list")
        if file is not None:
            return _sent(args, log, _from_file(file, found, theirs), theirs)
        chosen = _chosen(args, found)
        if args.action == "list":
            return _list(args, chosen, len(found))
        if not chosen:
            raise DataError("no letter is meant; `recdistill dead-letters` lists them")
        if args.action == "explain":
            return _explain(args, log, chosen, theirs)
        mended = [_mended(log, one, args.change, theirs) for one in chosen]
        return _write(args, mended, theirs) if args.action == "mend" else _sent(args, log, mended, theirs)


def _chosen(args: argparse.Namespace, found: Sequence[letters.Letter]) -> list[letters.Letter]:
    """The letters that a call means."""
    numbers = {}
    for text in args.what:
        if not text.isdecimal():
            raise UsageError(f"{text[:60]!r} is no number of a letter; `recdistill dead-letters` shows them")
        numbers[int(text)] = True
    if args.action == "explain" and len(numbers) != 1:
        raise UsageError("explain: takes the number of one letter")
    bare = not (numbers or args.stage or args.reason or args.since or args.until)
    if args.action in ("mend", "send") and bare and not args.all:
        raise UsageError(f"{args.action}: say which: numbers, --stage, --reason, --since or --until; or --all")
    for name, when in (("--since", args.since), ("--until", args.until)):
        if when is not None and when.time_us is None:
            raise UsageError(f"{name}: must be a time, as in 2026-01-31T12:00Z")
    if lacking := sorted(numbers.keys() - {one.number for one in found}):
        raise DataError(f"there is no letter {lacking[0]}; `recdistill dead-letters` lists them")
    return [
        one
        for one in found
        if (not numbers or one.number in numbers)
        and (args.stage is None or one.stage == args.stage)
        and (args.reason is None or args.reason in one.error)
        and (args.since is None or one.time_us >= args.since.time_us)
        and (args.until is None or one.time_us < args.until.time_us)
        and (args.all or numbers or not one.sent)
    ]


def _list(args: argparse.Namespace, chosen: Sequence[letters.Letter], whole: int) -> int:
    from recdistill.stream import write_time

    kinds = Counter((one.stage, re.sub(r"\d+", "#", cut(one.error, 90))) for one in chosen)
    lines = [f"{len(chosen):,} letters" + (f" of {whole:,}" if whole > len(chosen) else "")]
    lines += [f"  {count:6,}  {stage}: {printable(reason)}" for (stage, reason), count in kinds.most_common(10)]
    newest = chosen[-args.n :]
    if newest:
        lines.append("")
    for one in newest:
        mark = "  sent again" if one.sent else ""
        when = write_time(one.time_us // 1_000_000 * 1_000_000)
        lines.append(f"{one.number:6}  {when}  {one.stage:9}  {one.place}  {cut(printable(one.error), 90)}{mark}")
    if newest:
        lines += ["", f"`recdistill dead-letters explain {newest[-1].number}` says more of one"]
    rows = [_as_json(one) for one in newest]
    reasons = [{"stage": stage, "reason": reason, "letters": count} for (stage, reason), count in kinds.most_common()]
    show(args, {"letters": rows, "reasons": reasons, "count": len(chosen)}, "\n".join(lines))
    return 0


def _as_json(one: letters.Letter) -> dict[str, Any]:
    names = ("number", "time_us", "stage", "error", "topic", "partition", "offset", "sent")
    return {name: getattr(one, name) for name in names}


def _explain(
    args: argparse.Namespace, log: Log, chosen: Sequence[letters.Letter], theirs: Mapping[str, letters.Theirs]
) -> int:
    from recdistill.loops import letters
    from recdistill.stream import write_time

    [one] = chosen
    try:
        value, whole = letters.whole(log, one), True
    except DataError:
        value, whole = one.message.value, False
    fields = letters.fields_of(one, value, theirs) if whole else None
    advice = _ADVICE.get(one.error.partition(":")[0], "the reason says what is wrong")
    content = json.dumps(fields, indent=2, ensure_ascii=False, default=str) if fields is not None else repr(value)
    size = f"{len(value or b''):,} bytes" + ("" if whole else f" of {one.bytes:,}; the whole is no longer where it was")
    if one.sent:
        way = "it was sent again already"
    elif fields is None:
        way = f"`recdistill dead-letters mend {one.number} --out FILE` writes its bytes into a file"
    else:
        way = f"`recdistill dead-letters send {one.number} --change FIELD=VALUE`, or `mend {one.number} --out FILE`"
    lines = [
        f"letter {one.number}, of {write_time(one.time_us)}",
        f"  record       {one.place}, {size}",
        f"  given up by  {one.stage}",
        f"  because      {one.error}",
        f"  that is      {advice}",
        f"  way on       {way}",
        "",
        *cut(content, 8_000).splitlines(),
    ]
    shown = {**_as_json(one), "advice": advice, "record": fields, "bytes": len(value or b""), "whole": whole}
    show(args, shown, "\n".join(map(printable, lines)))
    return 0


def _mended(
    log: Log, one: letters.Letter, changes: Sequence[str], theirs: Mapping[str, letters.Theirs]
) -> letters.Mended:
    """A letter with the changes of a call."""
    from recdistill.loops import letters
    from recdistill.records import TOPICS

    value = letters.whole(log, one)
    if not changes:
        return letters.Mended(one, value)
    fields = letters.fields_of(one, value, theirs)
    if fields is None:
        raise DataError(f"letter {one.number}: its fields cannot be read, so none can be changed; mend it in a file")
    kinds = TOPICS[one.topic].__annotations__ if one.topic in TOPICS else {}
    return _with_fields(one, changed(fields, changes, kinds), theirs)


def _with_fields(
    one: letters.Letter, fields: Mapping[str, Any], theirs: Mapping[str, letters.Theirs]
) -> letters.Mended:
    from recdistill.loops import letters

    if one.topic in theirs:
        return letters.Mended(one, one.message.value, fields)
    return letters.Mended(one, json.dumps(fields, default=str).encode())


def changed(fields: Mapping[str, Any], changes: Sequence[str], kinds: Mapping[str, Any]) -> dict[str, Any]:
    """Fields with changes, each FIELD=VALUE; a path with dots leads into objects and lists.

    A value is JSON if it can be, but where a text stands or belongs, it is that text.

    Args:
        fields: The fields.
        changes: The changes.
        kinds: Types of the record's own fields, by name.

    Raises:
        UsageError: A change is not of that form, or leads nowhere.
    """
    found: dict[str, Any] = json.loads(json.dumps(fields, default=str))
    for change in changes:
        path, equals, text = change.partition("=")
        if not equals or not path:
            raise UsageError(f"--change {change[:60]!r}: must be FIELD=VALUE, as in --change item=sku-1")
        *way, last = path.split(".")
        inside: Any = found
        try:
            for part in way:
                inside = inside[int(part)] if isinstance(inside, list) else inside.setdefault(part, {})
            key: Any = int(last) if isinstance(inside, list) else last
            before = inside[key] if isinstance(inside, list) else inside.get(key)
            is_text = isinstance(before, str) or (before is None and str(kinds.get(path, "")).startswith("str"))
            inside[key] = text if is_text else _value(text)
        except (KeyError, IndexError, ValueError, TypeError, AttributeError):
            raise UsageError(f"--change {change[:60]!r}: there is no place {path!r} in the record") from None
    return found


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _write(args: argparse.Namespace, mended: Sequence[letters.Mended], theirs: Mapping[str, letters.Theirs]) -> int:
    """Writes letters into a file, one JSON object a line."""
    from recdistill.loops import letters

    if args.out is None:
        raise UsageError("mend: needs a file, --out FILE")
    lines = []
    for letter, value, fields in mended:
        known = fields if fields is not None else letters.fields_of(letter, value, theirs)
        record = {"record": known} if known is not None else {"bytes": base64.b64encode(value or b"").decode()}
        head = {"letter": letter.number, "stage": letter.stage, "error": letter.error, "topic": letter.topic}
        line = json.dumps({**head, **record}, ensure_ascii=False, default=str)
        lines.append(_ODD.sub(lambda found: f"\\u{ord(found[0]):04x}", line))
    try:
        with args.out.open("x", encoding="utf-8") as file:
            file.write("".join(line + "\n" for line in lines))
    except OSError as e:
        raise OutputError(f"{args.out}: cannot be written ({e.strerror}); choose another file") from e
    way = f"put each `record` right, then `recdistill dead-letters send {args.out}`"
    show(args, {"letters": len(lines), "file": str(args.out)}, f"{len(lines):,} letters are in {args.out}: {way}")
    return 0


def _from_file(
    path: Path, found: Sequence[letters.Letter], theirs: Mapping[str, letters.Theirs]
) -> list[letters.Mended]:
    """The letters of a file that `mend` wrote and a person edited."""
    from recdistill.given import read_text
    from recdistill.loops import letters

    by_number = {one.number: one for one in found}
    mended = []
    for number, line in enumerate(
        read_text(path, DataError, what="letters", advice="give a file that `mend` wrote").split("\n"), 1
    ):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
            one = by_number.get(row["letter"])
            if one is None:
                raise DataError(f"{where}: there is no letter {str(row['letter'])[:20]} in this log")
            if isinstance(row.get("record"), dict):
                mended.append(_with_fields(one, row["record"], theirs))
            else:
                mended.append(letters.Mended(one, base64.b64decode(row["bytes"], validate=True)))
        except DataError:
            raise
        except (ValueError, KeyError, TypeError, binascii.Error, RecursionError):
            wanted = "an object with letter, and record or bytes, as `mend` wrote it"
            raise DataError(f"{where}: must be {wanted}") from None
    return mended


def _sent(
    args: argparse.Namespace, log: Log, mended: Sequence[letters.Mended], theirs: Mapping[str, letters.Theirs]
) -> int:
    from recdistill.loops import letters

    counts = letters.send(log, mended, theirs)
    made = ", ".join(f"{value:,} {name}" for name, value in counts.items() if name not in ("sent", "already") and value)
    text = f"{counts['sent']:,} letters were sent again" + (f": {made}" if made else "")
    if counts["already"]:
        text += f"\n{counts['already']:,} had been sent before, and were not sent again"
    show(args, dict(counts), text)
    return 0


VERBS = (
    Verb(
        name="dead-letters",
        purpose="List, explain, correct and send again the records that a stage could not use.",
        when="Such a record is a letter in the topic dead-letters, with the reason. A letter that is sent again goes "
        "to the topic that it was for. A letter of the translator is translated again, with the mappings as they are "
        "now. Each letter is sent once only, even if you ask again or the command is killed. A letter that was sent is "
        "listed only with --all.",
        examples=(
            "dead-letters list --stage join --reason item",
            "dead-letters explain 12",
            "dead-letters send 12 --change item=sku-1",
            "dead-letters mend --stage translate --out letters.jsonl",
        ),
        options=_options,
        run=_letters,
    ),
)
