"""Bundles in the registry's artefact store: each file once, under its digest, and one manifest for each bundle.

| path | holds |
| --- | --- |
| `blobs/HH/SHA256` | a file of one or more bundles; HH, the first two digits, keeps each folder small |
| `blobs/HH/SHA256-RANDOM` | the same file once more: the first copy was condemned when it was needed again |
| `bundles/CONTENT_HASH.json` | the manifest of a bundle, which names its files by size and digest |
| `condemned.json` | digests that no manifest names, and since when |

A bundle is sent file by file. A file that is there already is not sent again. The manifest goes last: whoever sees it
can fetch all the files that it names. What is fetched is checked. A file must have the size and the digest that the
manifest names. The manifest must have the content hash that was asked for.

Space is given back in two steps. `drop` takes manifests away. `sweep` finds the files that no manifest names and notes
them. It deletes those that an earlier sweep noted at least `grace_s` seconds ago. So a file is safe that was sent a
moment ago for a bundle whose manifest has not come yet. Only one process may drop and sweep; any number may put and
fetch.

Nobody counts on a copy that is noted: who needs the file sends another copy. A sweep writes its notes before it looks
at the names for the last time, and a put writes its manifest before it looks at the notes for the last time. So one of
the two sees the other, wherever either is stopped in between.

It knows nothing of versions, nor of which bundles are worth keeping.

Example:
    >>> blob_path("ab" * 32)[:12]
    'blobs/ab/aba'
"""

from __future__ import annotations

import datetime as dt
import hashlib
import logging
import secrets
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from recdistill.bundle import SEAL, BundleFolder, Manifest, read_manifest
from recdistill.errors import BundleError, RegistryError
from recdistill.registry.artifacts import Artifacts
from recdistill.sealed import FileEntry

log_ = logging.getLogger(__name__)

MANIFEST: Final = SEAL.manifest
BUNDLES: Final = "bundles"
BLOBS: Final = "blobs"
CONDEMNED: Final = "condemned.json"
ATTEMPTS: Final = 3  # how often a put sends again what a sweep deletes at the same time
_PIECE: Final = 1 << 20


class _Gone(RegistryError):
    """The store does not have a file, or does not have it any more."""


def blob_path(sha256: str) -> str:
    """Where the file with this digest lies."""
    return f"{BLOBS}/{sha256[:2]}/{sha256}"


def _digest(name: str) -> str:
    """The digest of a file, from the name of a copy of it."""
    return name.partition("-")[0]


def _useless(sizes: Mapping[str, int], noted: Container[str], named: Mapping[str, int]) -> list[str]:
    """The copies that nobody needs.

    No manifest names them, or there is another copy beside them that is whole and not condemned.

    Args:
        sizes: Every copy by its path, with its size.
        noted: The copies that are condemned.
        named: Digests and sizes of the files that a manifest names.
    """
    digests = {path: _digest(path.rpartition("/")[2]) for path in sizes}
    kept: dict[str, str] = {}
    for path, digest in sorted(digests.items()):
        if path not in noted and sizes[path] == named.get(digest):
            kept.setdefault(digest, path)
    return [path for path, digest in digests.items() if digest not in named or kept.get(digest, path) != path]


class Store:
    """The bundles of one registered model. Methods raise what MLflow raises: callers stand inside `Connection.talk`.

    Args:
        artifacts: Opens the place where they lie. It is opened at the first use.
    """

    def __init__(self, artifacts: Callable[[], Artifacts]) -> None:
        self._open = artifacts
        self._opened: Artifacts | None = None
        self._read: dict[str, Manifest] = {}  # manifests never change

    @property
    def _artifacts(self) -> Artifacts:
        self._opened = self._opened or self._open()
        return self._opened

    def put(self, bundle: BundleFolder, *, again: bool = False) -> int:
        """Sends what the store does not have of a bundle, the manifest last. A condemned file counts as missing.

        Args:
            bundle: What to send.
            again: Send every file, also those that are there: for a store whose files are damaged.

        Returns:
            Bytes that were sent.

        Raises:
            RegistryError: Files vanish while they are sent.
        """
        files = {entry.sha256: (bundle.path / name, entry) for name, entry in bundle.manifest.files.items()}
        content_hash, sent = bundle.content_hash, 0
        for _ in range(ATTEMPTS):
            condemned = self._condemned()
            for sha256 in files if again else self._missing((entry for _, entry in files.values()), condemned):
                path, entry = files[sha256]
                for name in self._names_for(sha256, condemned):
                    self._artifacts.send(path, f"{BLOBS}/{sha256[:2]}", name)
                    sent += entry.size
            if again or content_hash not in self.bundles():
                self._artifacts.send(bundle.path / MANIFEST, BUNDLES, f"{content_hash}.json")
                self._read.pop(content_hash, None)
            again = False
            # A sweep may have condemned a file before this manifest named it. From now on it is named.
            if not self._missing((entry for _, entry in files.values()), self._condemned()):
                return sent
        raise RegistryError(f"bundle {content_hash[:12]}: its files vanish from the store while they are sent")

    def has(self, content_hash: str) -> bool:
        """Whether a bundle is there, all of its files with the sizes that they should have."""
        manifest = self.bundles().get(content_hash)
        return manifest is not None and not self._missing(manifest.files.values())

    def fetch(self, content_hash: str, into: Path) -> None:
        """Writes a bundle's files into an empty folder, each checked.

        Raises:
            RegistryError: The store does not have the bundle, or lost it on the way.
            BundleError: A file is not what the manifest says.
        """
        where = f"{BUNDLES}/{content_hash}.json"
        download(self._artifacts, content_hash, where, lambda _, entry: self._copies(entry), into)

    def bundles(self) -> dict[str, Manifest]:
        """The manifests that are there, by content hash. One that cannot be read is left out, with a warning."""
        sizes = self._artifacts.sizes(BUNDLES)
        found = {name.removesuffix(".json"): self._manifest(name, size) for name, size in sizes.items()}
        self._read = {content_hash: manifest for content_hash, manifest in found.items() if manifest is not None}
        return dict(self._read)

    def drop(self, content_hash: str) -> Callable[[], None]:
        """Takes a bundle's manifest away. Its files stay until a sweep.

        Returns:
            Puts the manifest back. Call it before a sweep, if at all.
        """
        name = f"{content_hash}.json"
        there = name in self._artifacts.sizes(BUNDLES)
        with tempfile.TemporaryDirectory() as scratch:
            taken = Path(scratch, name)
            if there:
                self._artifacts.take(f"{BUNDLES}/{name}", taken)
            manifest = taken.read_bytes() if there else b""
        self._artifacts.delete(f"{BUNDLES}/{name}")
        self._read.pop(content_hash, None)

        def back() -> None:
            if manifest:
                with tempfile.TemporaryDirectory() as scratch:
                    Path(scratch, name).write_bytes(manifest)
                    self._artifacts.send(Path(scratch, name), BUNDLES)

        return back

    def sweep(self, grace_s: float, clock: Callable[[], float] = time.time) -> int:
        """Deletes files that no manifest has named for a while.

        Args:
            grace_s: A file is deleted when a sweep that long ago found it without a name, and this one does too.
            clock: Seconds since the epoch.

        Returns:
            Bytes that were given back.
        """
        sizes = {
            f"{BLOBS}/{shard}/{name}": size
            for shard in self._artifacts.folders(BLOBS)
            for name, size in self._artifacts.sizes(f"{BLOBS}/{shard}").items()
        }
        now, since = clock(), self._condemned()
        noted = {path: min(now, since.get(path, now)) for path in _useless(sizes, since, self._named())}
        if noted != since:  # before anything is deleted: see the header
            self._note(noted)
        # What lost its name only now is noted by the next sweep.
        freed, left = 0, set(noted).intersection(_useless(sizes, noted, self._named()))
        for path in sorted(path for path in left if now - noted[path] >= grace_s):
            self._artifacts.delete(path)
            freed += sizes[path]
            left.discard(path)
        if left != set(noted):
            self._note({path: noted[path] for path in left})
        return freed

    def _named(self) -> dict[str, int]:
        """Digests and sizes of the files that a manifest names."""
        return {e.sha256: e.size for m in self.bundles().values() for e in m.files.values()}

    def _missing(self, entries: Iterable[FileEntry], condemned: Container[str] = ()) -> list[str]:
        """Digests of the files that are not there, or not there whole, or only in copies that are condemned."""
        shards: dict[str, list[FileEntry]] = defaultdict(list)
        for entry in entries:
            shards[entry.sha256[:2]].append(entry)
        missing = []
        for shard, wanted in shards.items():
            sizes = self._artifacts.sizes(f"{BLOBS}/{shard}")
            there = {
                (_digest(name), size) for name, size in sizes.items() if f"{BLOBS}/{shard}/{name}" not in condemned
            }
            missing += [entry.sha256 for entry in wanted if (entry.sha256, entry.size) not in there]
        return missing

    def _names_for(self, sha256: str, condemned: Container[str]) -> list[str]:
        """Under which names a file is sent: as every copy that is there and not condemned, or as a copy of its own."""
        folder = f"{BLOBS}/{sha256[:2]}"
        names = [name for name in self._artifacts.sizes(folder) if _digest(name) == sha256]
        usable = [name for name in names if f"{folder}/{name}" not in condemned]
        return usable or [sha256 if blob_path(sha256) not in condemned else f"{sha256}-{secrets.token_hex(4)}"]

    def _copies(self, entry: FileEntry) -> list[str]:
        """Where a file may lie: first its copies that are whole, then its plain place."""
        sizes = self._artifacts.sizes(f"{BLOBS}/{entry.sha256[:2]}")
        whole = [name for name, size in sizes.items() if _digest(name) == entry.sha256 and size == entry.size]
        return [f"{BLOBS}/{entry.sha256[:2]}/{name}" for name in sorted(whole)] or [blob_path(entry.sha256)]

    def _manifest(self, name: str, size: int) -> Manifest | None:
        content_hash = name.removesuffix(".json")
        if content_hash not in self._read:
            try:
                with tempfile.TemporaryDirectory() as scratch:
                    manifest = _take_manifest(
                        self._artifacts, content_hash, f"{BUNDLES}/{name}", size, Path(scratch, MANIFEST)
                    )
            except _Gone:  # between the list and this look
                return None
            except BundleError as e:
                log_.warning("%s", e)
                return None
            self._read[content_hash] = manifest
        return self._read[content_hash]

    def _condemned(self) -> dict[str, float]:
        """What earlier sweeps noted. Notes that cannot be read are dropped, and then the time of grace begins again."""
        if CONDEMNED not in self._artifacts.sizes(""):
            return {}
        with tempfile.TemporaryDirectory() as scratch:
            self._artifacts.take(CONDEMNED, Path(scratch, CONDEMNED))
            try:
                return msgspec.json.decode(Path(scratch, CONDEMNED).read_bytes(), type=dict[str, float])
            except (msgspec.MsgspecError, UnicodeDecodeError) as e:
                log_.warning("%s cannot be read, so a new one is written: %s", CONDEMNED, e)
                return {}

    def _note(self, noted: Mapping[str, float]) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            Path(scratch, CONDEMNED).write_bytes(msgspec.json.encode(dict(noted)))
            self._artifacts.send(Path(scratch, CONDEMNED), "")


def download(
    artifacts: Artifacts,
    content_hash: str,
    manifest_path: str,
    places_of: Callable[[str, FileEntry], Sequence[str]],
    into: Path,
) -> None:
    """Writes a bundle's files into an empty folder: first the manifest, then what it lists, in the sizes that it lists.

    Args:
        artifacts: Where they lie.
        content_hash: Which bundle it must be.
        manifest_path: Where its manifest lies.
        places_of: Where a file may lie, from its name and its entry in the manifest. The next place is tried if one
            has vanished, or holds something else.
        into: The folder.

    Raises:
        RegistryError: A file is missing.
        BundleError: A file is not what the manifest says.
    """
    folder, _, name = manifest_path.rpartition("/")
    size = artifacts.sizes(folder).get(name)
    manifest = _take_manifest(artifacts, content_hash, manifest_path, size, into / MANIFEST)
    for file, entry in sorted(manifest.files.items()):
        *others, last = places_of(file, entry)
        for path in others:
            try:
                _take_file(artifacts, content_hash, path, entry, into / file)
                break
            except (_Gone, BundleError) as e:
                log_.info("another copy is tried: %s", e)
        else:
            _take_file(artifacts, content_hash, last, entry, into / file)


def _take_file(artifacts: Artifacts, content_hash: str, path: str, entry: FileEntry, into: Path) -> None:
    folder, _, name = path.rpartition("/")
    size = artifacts.sizes(folder).get(name)
    if size is not None and size != entry.size:
        raise BundleError(
            f"bundle {content_hash[:12]}: {into.name} has {size} bytes in the registry, its manifest says "
            f"{entry.size}; publish the bundle again"
        )
    _take(artifacts, content_hash, path, size, into)
    if digest_of(into) != entry.sha256:
        raise BundleError(f"bundle {content_hash[:12]}: {into.name} was changed in the registry; publish it again")


def _take_manifest(artifacts: Artifacts, content_hash: str, path: str, size: int | None, into: Path) -> Manifest:
    if size is not None and size > SEAL.most:
        raise BundleError(f"{path}: {size} bytes, more than the {SEAL.most} that a manifest may have")
    _take(artifacts, content_hash, path, size, into)
    manifest = read_manifest(into.read_bytes(), source=path)
    if manifest.content_hash != content_hash:
        raise BundleError(
            f"{path}: the registry says {content_hash[:12]}, the files are {manifest.content_hash[:12]}; "
            "publish the bundle again"
        )
    return manifest


def _take(artifacts: Artifacts, content_hash: str, path: str, size: int | None, into: Path) -> None:
    """Fetches one file. When it is not there, or was deleted a moment ago, the error says so in one sentence."""
    from mlflow.exceptions import MlflowException

    gone = _Gone(
        f"the registry does not hold the files of bundle {content_hash[:12]} (registry.keep says which bundles it "
        f"keeps): {path} is missing"
    )
    if size is None:
        raise gone
    try:
        artifacts.take(path, into)
    except MlflowException:
        folder, _, name = path.rpartition("/")
        if name not in artifacts.sizes(folder):
            raise gone from None
        artifacts.take(path, into)  # it was put again since; if it fails once more, that is the error


def made_at(manifest: Manifest) -> str:
    """When a bundle was made, as text that sorts by time; empty when its manifest does not say."""
    said = manifest.provenance.get("made_at")
    try:
        return dt.datetime.fromisoformat(said).astimezone(dt.UTC).isoformat() if isinstance(said, str) else ""
    except ValueError:
        return ""


def digest_of(path: Path) -> str:
    """SHA-256 of a file."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            found.update(piece)
    return found.hexdigest()
