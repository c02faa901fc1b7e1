"""Keys in a folder."""

from __future__ import annotations

import logging
import subprocess
from pathlib import Path

import pytest

from recdistill.errors import ConfigError
from recdistill.ledger import NO_KEYS, list_keys, make_key, open_keys


def test_openssl_reads_them_and_signs_as_we_do(tmp_path: Path) -> None:
    made = make_key(tmp_path, "ada")
    assert made.path.stat().st_mode & 0o777 == 0o600
    (tmp_path / "data").write_bytes(b"figures")
    command = ["openssl", "pkeyutl", "-sign", "-rawin", "-inkey", str(made.path), "-in", str(tmp_path / "data")]
    by_openssl = subprocess.run(command, capture_output=True, check=True).stdout
    keys = open_keys(tmp_path)
    assert keys.sign(b"figures") == (made.id, by_openssl)  # Ed25519 has one signature for a text
    assert keys.verify(made.id, b"figures", by_openssl) == ""
    assert "does not hold" in keys.verify(made.id, b"figureS", by_openssl)


def test_no_folder_has_no_keys(tmp_path: Path) -> None:
    keys = open_keys(tmp_path / "none")
    assert (keys.signs, keys.demanded, NO_KEYS.demanded) == ("", False, False)
    assert open_keys(None, required="always").demanded
    with pytest.raises(ConfigError, match="no key signs here"):
        keys.sign(b"")


def test_one_of_several_signs_and_all_are_trusted(tmp_path: Path) -> None:
    ada, bert = (make_key(tmp_path, name) for name in ("ada", "bert"))
    with pytest.raises(ConfigError, match=r"several private keys \(ada, bert\)"):
        open_keys(tmp_path)
    keys = open_keys(tmp_path, signer="bert")
    assert (keys.signs, keys.names) == (bert.id, {ada.id: "ada", bert.id: "bert"})
    assert [key.name for key in list_keys(tmp_path)] == ["ada", "bert"]
    with pytest.raises(ConfigError, match=r"has no private key carl\.key"):
        open_keys(tmp_path, signer="carl")
    ada.path.unlink()
    assert open_keys(tmp_path).signs == bert.id


def test_what_is_no_key_is_a_sentence(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ConfigError, match="not the name of a key"):
        make_key(tmp_path, "../x")
    made = make_key(tmp_path, "ada")
    with pytest.raises(ConfigError, match="there is a key of this name already"):
        make_key(tmp_path, "ada")
    made.path.chmod(0o644)
    with caplog.at_level(logging.WARNING):
        open_keys(tmp_path)
    assert "others can read this private key" in caplog.text
    (tmp_path / "junk.pub").write_text("junk")
    with pytest.raises(ConfigError, match=r"junk\.pub: not a public key in PEM"):
        open_keys(tmp_path)


def test_a_machine_that_lost_its_keys_trusts_nobody(tmp_path: Path) -> None:
    made = make_key(tmp_path / "forger", "eve")
    key, signature = open_keys(tmp_path / "forger").sign(b"figures")
    assert key == made.id
    lost = open_keys(tmp_path / "none", required="always")
    assert lost.verify(key, b"figures", signature) == f"it is signed with key {key}, which is not trusted here"
    assert open_keys(tmp_path / "none").verify(key, b"figures", signature) == "", "nobody asks for a signature there"


def test_the_public_key_of_a_colleague_is_never_written_over(tmp_path: Path) -> None:
    theirs = make_key(tmp_path / "theirs", "ada")
    mine = tmp_path / "mine"
    mine.mkdir()
    text = theirs.path.with_suffix(".pub").read_bytes()
    (mine / "ada.pub").write_bytes(text)
    with pytest.raises(ConfigError, match=r"ada\.pub: there is a key of this name already; choose another name"):
        make_key(mine, "ada")
    assert [path.name for path in mine.iterdir()] == ["ada.pub"]
    assert (mine / "ada.pub").read_bytes() == text
    with pytest.raises(ConfigError, match=r"ada\.pub: is not a folder; set keys\.directory to another place"):
        make_key(mine / "ada.pub", "ada")
