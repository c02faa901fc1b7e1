"""Keys in a folder."""

from __future__ import annotations

import logging
import subprocess
from pathlib import Path

import pytest
from support.kills import Killed, die_at

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


@pytest.mark.parametrize("after", [False, True])
def test_a_run_that_was_killed_anywhere_is_finished_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    """Whatever is left there: nobody else can read a secret, and the same command again makes a pair that signs."""
    for nth in range(1, 50):
        folder = tmp_path / str(nth)
        with monkeypatch.context() as patch:
            calls = die_at(patch, nth, after=after)
            try:
                make_key(folder, "ada")
            except Killed:
                pass
            else:
                assert calls() == nth - 1
                break
        left = [path for path in folder.iterdir() if ".pub" not in path.name] if folder.exists() else []
        assert all(path.stat().st_mode & 0o077 == 0 for path in left), left
        secret = {path.read_bytes() for path in left if path.name == "ada.key"}
        if (folder / "ada.pub").exists():
            with pytest.raises(ConfigError, match=r"ada\.pub: there is a key of this name already"):
                make_key(folder, "ada")
        else:
            made = make_key(folder, "ada")
            assert (made.id, made.path) == (list_keys(folder)[0].id, folder / "ada.key")
        keys = open_keys(folder)
        key, signature = keys.sign(b"figures")
        assert (keys.names[key], keys.verify(key, b"figures", signature)) == ("ada", "")
        assert secret <= {(folder / "ada.key").read_bytes()}  # a key that was made stays the key
    assert nth > 10


def test_half_a_private_key_says_what_to_do(tmp_path: Path) -> None:
    """Older versions did not write the file whole."""
    (tmp_path / "ada.key").write_text("-----BEGIN PRIVATE KEY-----\nMC4CAQ")
    with pytest.raises(ConfigError, match=r"ada\.key: not a private key .*; if .* delete this file and type the same"):
        make_key(tmp_path, "ada")
