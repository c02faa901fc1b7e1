r"""A note: one line of JSON, its digest, and a signature over its exact bytes.

    {"n":3,"kind":"promoted",...}
    sha256 5f0c…
    ed25519 1f7a0c9d4e21b3aa 9b0d…

The signature is over the exact bytes of the first line. They are not decoded and encoded again for the check, so no
number can change its form. The kind of text goes into the signature, too (DSSE's encoding). So nobody can pass off a
signed judgement as an entry of the ledger. There is only one way to write a note, and a reader refuses any other.

The digest shows accidental changes, and needs no key. It does not show forgery: for that, a signature is needed.

It knows nothing of keys' files, of logs, or of what the text means.

Example:
    >>> text = write("entry", b'{"n":1}', sign=None)
    >>> read("entry", text, verify=None)
    Note(payload=b'{"n":1}', key='', signature=b'')
    >>> read("entry", text.replace(b"1", b"2", 1), verify=None)
    Traceback (most recent call last):
    recdistill.errors.DecodeError: its digest is not that of its text: it was changed
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Final, NamedTuple

from recdistill.errors import DecodeError

_SHAPE: Final = re.compile(
    rb"([^\n]+)\nsha256 ([0-9a-f]{64})\n(?:ed25519 ([0-9a-f]{16}) ([0-9a-f]{128})\n)?", re.DOTALL
)

Sign = Callable[[bytes], tuple[str, bytes]]
"""Signs bytes: the id of the key, and 64 bytes."""

Verify = Callable[[str, bytes, bytes], str]
"""Checks the signature of a key over bytes. It returns what is wrong; empty: nothing."""


class Note(NamedTuple):
    """A note that was read. `key` is empty if the note has no signature."""

    payload: bytes
    key: str
    signature: bytes


def signed_bytes(what: str, payload: bytes) -> bytes:
    """The bytes that are signed: DSSE's encoding of the kind of text and of its bytes.

    Source: https://github.com/secure-systems-lab/dsse/blob/master/protocol.md
    """
    kind = f"application/vnd.recdistill.{what}+json".encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def seals(what: str, payload: bytes, sign: Sign | None) -> bytes:
    """The lines below a payload: its digest and, if there is a key, a signature."""
    lines = f"sha256 {hashlib.sha256(payload).hexdigest()}\n"
    if sign is not None:
        key, signature = sign(signed_bytes(what, payload))
        lines += f"ed25519 {key} {signature.hex()}\n"
    return lines.encode()


def write(what: str, payload: bytes, sign: Sign | None) -> bytes:
    """Writes a note.

    Args:
        what: What kind of text it is.
        payload: One line, without the line break.
        sign: Signs it. None: it is not signed.
    """
    return payload + b"\n" + seals(what, payload, sign)


def read(what: str, data: bytes | None, verify: Verify | None) -> Note:
    """Reads a note and checks all that can be checked.

    Args:
        what: What kind of text it has to be.
        data: Its bytes.
        verify: Checks a signature. None: signatures are not checked.

    Raises:
        DecodeError: It is not a note, or was changed, or its signature is wrong. The sentence says which.
    """
    found = _SHAPE.fullmatch(data or b"")
    if found is None:
        raise DecodeError("it is no signed text: one line, its digest, and at most one signature")
    payload, digest, key, signature = found.groups()
    if hashlib.sha256(payload).hexdigest() != digest.decode():
        raise DecodeError("its digest is not that of its text: it was changed")
    note = Note(payload, (key or b"").decode(), bytes.fromhex((signature or b"").decode()))
    if note.key and verify is not None and (wrong := verify(note.key, signed_bytes(what, payload), note.signature)):
        raise DecodeError(wrong)
    return note


def digest(data: bytes | None) -> str:
    """SHA-256 of a whole note, with its signature. The next entry of a chain names it."""
    return hashlib.sha256(data or b"").hexdigest()


# Documents that other programs read too

_FIELD: Final = b',\n  "signed": "'
_END: Final = b'"\n}'


def attach(what: str, document: bytes, sign: Sign | None) -> bytes:
    r"""Adds a last field `signed` to a JSON document. It holds the digest and the signature of everything before it.

    Args:
        what: What kind of document it is.
        document: An indented JSON object.
        sign: Signs it. None: it is not signed.

    Example:
        >>> attach("judgement", b'{\n  "a": 1\n}', None).splitlines()[2][:19]
        b'  "signed": "sha256'
    """
    body = document.rstrip()
    lines = seals(what, body, sign).replace(b"\n", b"\\n")
    return body.removesuffix(b"}").rstrip() + _FIELD + lines + _END


def detach(what: str, data: bytes, verify: Verify | None) -> Note | None:
    """Checks a document that `attach` made, and gives the document from before. None: it has no field `signed`.

    Raises:
        DecodeError: The document is not the one that was signed.
    """
    body = data.rstrip()
    begin = body.rfind(_FIELD)
    if begin < 0 or not body.endswith(_END):
        if b'"signed"' in body:
            raise DecodeError("its field 'signed' is not written as recdistill writes it; give the file unchanged")
        return None
    document = body[:begin] + b"\n}"
    lines = body[begin + len(_FIELD) : -len(_END)].replace(b"\\n", b"\n")
    # These are the last lines of a note. A document has several lines and a note's text has one, so `read` cannot help.
    found = re.fullmatch(rb"sha256 ([0-9a-f]{64})\n(?:ed25519 ([0-9a-f]{16}) ([0-9a-f]{128})\n)?", lines)
    if found is None:
        raise DecodeError("its field 'signed' is not written as recdistill writes it; give the file unchanged")
    said, key, signature = found.groups()
    if hashlib.sha256(document).hexdigest() != said.decode():
        raise DecodeError("its digest is not that of its text: it was changed")
    note = Note(document, (key or b"").decode(), bytes.fromhex((signature or b"").decode()))
    if note.key and verify is not None and (wrong := verify(note.key, signed_bytes(what, document), note.signature)):
        raise DecodeError(wrong)
    return note
