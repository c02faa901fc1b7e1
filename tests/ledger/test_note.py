"""A signed text: exact bytes, and every other byte is found."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from recdistill.errors import DecodeError
from recdistill.ledger import attach, detach, make_key, open_keys, read, write
from recdistill.ledger.note import signed_bytes

FIGURES = b'{"ndcg":0.1,"tiny":1e-300,"same":0.1000000000000000055511151231257827}'


def test_the_bytes_that_are_signed_are_those_of_the_standard() -> None:
    kind = b"application/vnd.recdistill.entry+json"
    assert signed_bytes("entry", b"{}") == b"DSSEv1 " + str(len(kind)).encode() + b" " + kind + b" 2 {}"


def test_a_number_keeps_its_form_and_another_library_verifies_it(tmp_path: Path) -> None:
    made = make_key(tmp_path, "judge")
    keys = open_keys(tmp_path)
    text = write("entry", FIGURES, keys.sign)
    assert read("entry", text, keys.verify).payload == FIGURES
    payload, digest, signature = text.rstrip(b"\n").split(b"\n")
    assert digest == b"sha256 " + hashlib.sha256(FIGURES).hexdigest().encode()
    assert payload == FIGURES
    _, key, signed = signature.decode().split()
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    public = load_pem_public_key(made.path.with_suffix(".pub").read_bytes())
    public.verify(bytes.fromhex(signed), signed_bytes("entry", FIGURES))  # type: ignore[call-arg,union-attr]
    assert key == made.id == hashlib.sha256(public.public_bytes_raw()).hexdigest()[:16]  # type: ignore[union-attr]


@pytest.mark.parametrize("signed", [False, True])
def test_each_byte_that_is_flipped_is_found(tmp_path: Path, signed: bool) -> None:
    make_key(tmp_path, "judge")
    keys = open_keys(tmp_path)
    text = write("entry", b'{"n":1,"why":"good"}', keys.sign if signed else None)
    assert read("entry", text, keys.verify).payload
    for place in range(len(text)):
        for bit in (1, 32, 128):
            bad = bytearray(text)
            bad[place] ^= bit
            with pytest.raises(DecodeError):
                read("entry", bytes(bad), keys.verify)
    for end in range(len(text)):
        if signed and text[:end].count(b"\n") == 2 and text[:end].endswith(b"\n"):
            continue  # that is a whole text without its signature: the chain does not believe it
        with pytest.raises(DecodeError):
            read("entry", text[:end], keys.verify)


def test_a_signature_of_one_kind_of_text_is_none_of_another(tmp_path: Path) -> None:
    make_key(tmp_path, "judge")
    keys = open_keys(tmp_path)
    text = write("judgement", b"{}", keys.sign)
    with pytest.raises(DecodeError, match=r"signature of judge \([0-9a-f]{16}\) does not hold"):
        read("entry", text, keys.verify)


def test_another_s_key_is_not_trusted(tmp_path: Path) -> None:
    for name in ("ours", "theirs"):
        make_key(tmp_path / name, name)
    text = write("entry", b"{}", open_keys(tmp_path / "theirs").sign)
    with pytest.raises(DecodeError, match="which is not trusted here"):
        read("entry", text, open_keys(tmp_path / "ours").verify)
    assert isinstance(Ed25519PrivateKey.generate(), Ed25519PrivateKey)


@pytest.mark.parametrize("signed", [False, True])
def test_a_document_stays_json_and_each_flipped_byte_is_found(tmp_path: Path, signed: bool) -> None:
    make_key(tmp_path, "judge")
    keys = open_keys(tmp_path)
    document = b'{\n  "ndcg": 0.30000000000000004,\n  "signs": ["a"]\n}'
    data = attach("judgement", document, keys.sign if signed else None)
    assert json.loads(data)["ndcg"] == 0.1 + 0.2
    note = detach("judgement", data + b"\n", keys.verify)
    assert note is not None
    assert (note.payload, bool(note.key)) == (document, signed)
    assert detach("judgement", document, keys.verify) is None
    for place in range(len(data)):
        bad = bytearray(data)
        bad[place] ^= 2
        try:
            found = detach("judgement", bytes(bad), keys.verify)
        except DecodeError:
            continue
        # What is left may have lost its field. Then it is unsigned, and who demands a signature refuses it.
        assert found is None, bytes(bad)
