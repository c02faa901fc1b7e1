"""Ed25519 keys in a folder: one private key that signs here, and the public keys that are trusted.

`NAME.key` is a private key and `NAME.pub` a public key. Both are in PEM, which `openssl pkey` reads. Every `.pub` in
the folder is trusted: to trust a colleague, put the colleague's `.pub` there. The `.key` signs. If the folder does not
exist, there are no keys, and nothing is signed.

It knows nothing of what is signed.

Example:
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     made = make_key(Path(folder), "judge")
    ...     keys = open_keys(Path(folder))
    ...     key, signature = keys.sign(b"figures")
    ...     (key == made.id, keys.names[key], keys.verify(key, b"figures", signature), keys.demanded)
    (True, 'judge', '', True)
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from recdistill.errors import ConfigError
from recdistill.given import read_bytes
from recdistill.installed import how_to_install

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

log_ = logging.getLogger(__name__)

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
PRIVATE, PUBLIC = ".key", ".pub"
_MOST: Final = 64 << 10  # the largest key file that is read, in bytes; a file with an Ed25519 key has about 120

Required = Literal["auto", "always"]
"""`auto`: signatures are demanded if at least one public key is trusted. `always`: they are always demanded."""


class Key(NamedTuple):
    """A public key."""

    id: str
    name: str
    path: Path


class Keys:
    """The key that signs here, and the keys that are trusted.

    Args:
        trusted: Public keys and their names, by id.
        signer: The private key that signs, and its id. None: nothing is signed.
        required: When a signature is demanded.
    """

    def __init__(
        self,
        trusted: Mapping[str, tuple[str, Ed25519PublicKey]] | None = None,
        signer: tuple[str, Ed25519PrivateKey] | None = None,
        required: Required = "auto",
    ) -> None:
        self._trusted, self._signer = dict(trusted or {}), signer
        self.demanded = required == "always" or bool(self._trusted)
        self.always = required == "always"

    @property
    def names(self) -> dict[str, str]:
        """The names of the trusted keys, by id."""
        return {key: name for key, (name, _) in self._trusted.items()}

    @property
    def signs(self) -> str:
        """The id of the key that signs here. Empty: no key signs here."""
        return self._signer[0] if self._signer else ""

    def sign(self, data: bytes) -> tuple[str, bytes]:
        """Signs bytes.

        Raises:
            ConfigError: No key signs here.
        """
        if self._signer is None:
            raise ConfigError("no key signs here; make one with `recdistill keys make NAME`")
        return self._signer[0], self._signer[1].sign(data)

    def verify(self, key: str, data: bytes, signature: bytes) -> str:
        """What is wrong with a signature. Empty: nothing, or no key is trusted here and nobody demands a signature."""
        if not self._trusted and not self.always:
            return ""
        found = self._trusted.get(key)
        if found is None:
            return f"it is signed with key {key}, which is not trusted here"
        from cryptography.exceptions import InvalidSignature

        try:
            found[1].verify(signature, data)
        except InvalidSignature:
            return f"the signature of {found[0]} ({key}) does not hold: it was changed or forged"
        return ""


NO_KEYS: Final = Keys()
"""Nothing is signed, and nothing is trusted."""


def make_key(folder: Path, name: str) -> Key:
    """Makes a key pair. Only the owner can read the private file.

    Each file is written whole or not at all, the private one first. If a run was killed between the two, the next one
    makes the public file of the private key that is there.

    Raises:
        ConfigError: The name is not allowed, a key of this name exists, or the folder cannot be written.
    """
    if not NAME.fullmatch(name):
        raise ConfigError(f"{name!r}: not the name of a key; use up to 64 letters, digits, '.', '_' and '-'")
    serialization, ed25519 = _library()
    path = folder / f"{name}{PRIVATE}"
    there = path.with_suffix(PUBLIC)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if there.exists():  # perhaps that of a colleague
            raise ConfigError(f"{there}: there is a key of this name already; choose another name")
        if path.exists():
            private = _left(path)
        else:
            private = ed25519.Ed25519PrivateKey.generate()
            secret = private.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            _put(path, secret, 0o600)
        public = private.public_key()
        text = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        _put(there, text, 0o644)
    except FileExistsError as e:
        if not folder.is_dir():
            raise ConfigError(f"{folder}: is not a folder; set keys.directory to another place") from e
        raise ConfigError(f"{path}: there is a key of this name already; choose another name") from e
    except OSError as e:
        raise ConfigError(f"{folder}: a key cannot be written there ({e.strerror}); choose another folder") from e
    return Key(_id(public), name, path)


def _left(path: Path) -> Ed25519PrivateKey:
    """The private key whose public file is missing."""
    try:
        private = _read_private(path)
    except ConfigError as e:
        again = "if `recdistill keys make` was stopped there, delete this file and type the same again"
        raise ConfigError(f"{e}; {again}") from e
    _draft(path).unlink(missing_ok=True)
    log_.warning("%s was there without its .pub, as after a run that was stopped; the .pub is made now", path)
    return private


def _draft(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


def _put(path: Path, data: bytes, mode: int) -> None:
    """Writes a file whole or not at all. Raises FileExistsError if it is there."""
    draft = _draft(path)
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.link(draft, path)  # unlike a rename, it never writes over a file
    draft.unlink()


def open_keys(folder: Path | None, *, signer: str = "", required: Required = "auto") -> Keys:
    """The keys of a folder.

    Args:
        folder: The folder. None, or a folder that does not exist: there are no keys.
        signer: Name of the key that signs. Empty: the only `.key` of the folder.
        required: When a signature is demanded.

    Raises:
        ConfigError: A file is not an Ed25519 key, there are several private keys but no `signer`, or the library is not
            installed.
    """
    public = sorted(folder.glob(f"*{PUBLIC}")) if folder and folder.is_dir() else []
    private = sorted(folder.glob(f"*{PRIVATE}")) if folder and folder.is_dir() else []
    if signer:
        private = [path for path in private if path.name == f"{signer}{PRIVATE}"]
        if not private:
            raise ConfigError(f"{folder}: has no private key {signer}{PRIVATE}; see keys.signer")
    if len(private) > 1:
        names = ", ".join(path.stem for path in private)
        raise ConfigError(f"{folder}: has several private keys ({names}); say which one signs here: keys.signer = NAME")
    if not public and not private:
        return Keys(required=required)
    trusted = {_id(key): (path.stem, key) for path in public for key in (_read_public(path),)}
    if not private:
        return Keys(trusted, required=required)
    own = _read_private(private[0])
    if private[0].stat().st_mode & 0o077:
        log_.warning("%s: others can read this private key; type: chmod 600 %s", private[0], private[0])
    return Keys(trusted, (_id(own.public_key()), own), required)


def list_keys(folder: Path) -> list[Key]:
    """The public keys of a folder. They are the trusted keys.

    Raises:
        ConfigError: A file is not an Ed25519 key.
    """
    return [Key(_id(_read_public(path)), path.stem, path) for path in sorted(folder.glob(f"*{PUBLIC}"))]


def _id(public: Ed25519PublicKey) -> str:
    return hashlib.sha256(public.public_bytes_raw()).hexdigest()[:16]


def _library() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ModuleNotFoundError as e:
        raise ConfigError(f"keys need cryptography, which is not installed; type: {how_to_install('registry')}") from e
    return serialization, ed25519


def _read_public(path: Path) -> Ed25519PublicKey:
    serialization, ed25519 = _library()
    text = read_bytes(path, advice="copy it again, or take it away", most=_MOST)
    try:
        found = serialization.load_pem_public_key(text)
    except (ValueError, TypeError) as e:
        raise ConfigError(f"{path}: not a public key in PEM ({e}); copy it again, or take it away") from e
    if not isinstance(found, ed25519.Ed25519PublicKey):
        raise ConfigError(f"{path}: a key of another kind; only Ed25519 is used, see `recdistill keys make`")
    public: Ed25519PublicKey = found
    return public


def _read_private(path: Path) -> Ed25519PrivateKey:
    serialization, ed25519 = _library()
    text = read_bytes(path, advice="copy it again, or take it away", most=_MOST)
    try:
        found = serialization.load_pem_private_key(text, password=None)
    except (ValueError, TypeError) as e:
        raise ConfigError(f"{path}: not a private key in PEM without a password ({e})") from e
    if not isinstance(found, ed25519.Ed25519PrivateKey):
        raise ConfigError(f"{path}: a key of another kind; only Ed25519 is used, see `recdistill keys make`")
    private: Ed25519PrivateKey = found
    return private
