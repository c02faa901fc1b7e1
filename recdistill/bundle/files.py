"""Writes, opens, verifies and compares bundles. The layout is in the header of the package.

What is read is read once: the bytes that were hashed are the bytes that are parsed, and an array is mapped through the
same open file. It does not run towers or indexes.

Example:
    >>> open_bundle(Path("no/such/folder"))
    Traceback (most recent call last):
    recdistill.errors.BundleError: no/such/folder: there is no bundle here; give the folder that holds manifest.json
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from recdistill.bundle import manifest as m
from recdistill.errors import BundleError, RecdistillError
from recdistill.features import FeatureSpec, Vocabulary
from recdistill.model import layout, quantise
from recdistill.records import Event, Item, Value, decode, encode

MANIFEST: Final = "manifest.json"
_PIECE: Final = 1 << 20

Floats = npt.NDArray[np.float32]


class Golden(Struct, frozen=True, forbid_unknown_fields=True):
    """A request and its best items with their scores, by exact search over the bundle's own catalogue."""

    history: tuple[Event, ...]
    context: dict[str, Value]
    time_us: int
    items: tuple[str, ...]
    scores: tuple[float, ...]


@dataclass(frozen=True)
class Bundle:
    """An opened bundle: everything in it has been verified. N items, dimension D.

    Args:
        path: Its folder.
        manifest: What it is and where it comes from.
        spec: The feature specification.
        vocabulary: Admitted values.
        items: The N live items in slot order.
        vectors_NW: Vector, bias, weight in a history; float32 `[N, D+2]`, mapped from disk, read-only.
        quantised_ND: int8 vectors, mapped from disk, read-only.
        scales_N: float16 scale of each int8 vector.
        user_tower: Bytes of the graph.
        item_tower: Bytes of the graph.
        index: Bytes of `index.faiss`, None for exact search.
        popular: Items with their weights, most popular first.
        golden: Requests with the answers they must get.
    """

    path: Path
    manifest: m.Manifest
    spec: FeatureSpec
    vocabulary: Vocabulary
    items: list[Item]
    vectors_NW: Floats
    quantised_ND: npt.NDArray[np.int8]
    scales_N: npt.NDArray[np.float16]
    user_tower: bytes
    item_tower: bytes
    index: bytes | None
    popular: list[tuple[str, float]]
    golden: list[Golden]

    @property
    def content_hash(self) -> str:
        """What identifies it: SHA-256 of the manifest's content."""
        return self.manifest.content_hash

    @property
    def size(self) -> int:
        """Bytes of its files, the manifest left out."""
        return sum(entry.size for entry in self.manifest.content.files.values())


def write_bundle(
    out: Path,
    *,
    spec: FeatureSpec,
    vocabulary: Vocabulary,
    items: Sequence[Item],
    vectors_NW: Floats,
    user_tower: bytes,
    item_tower: bytes,
    opsets: Mapping[str, int],
    index: bytes | None,
    index_info: m.IndexInfo,
    popular: Sequence[tuple[str, float]],
    golden: Sequence[Golden],
    base_position: int,
    provenance: Mapping[str, Any],
) -> Bundle:
    """Writes a bundle, whole or not at all, and opens it.

    Args:
        out: Its folder, which must not exist yet.
        spec: The feature specification.
        vocabulary: Admitted values.
        items: The N live items.
        vectors_NW: Vector, bias and weight in a history of each.
        user_tower: Graph of the user tower.
        item_tower: Graph of the item tower.
        opsets: Operator sets that the graphs need.
        index: Bytes of the faiss index, None for exact search.
        index_info: What was measured of it.
        popular: Items with their weights, most popular first.
        golden: Requests with the answers they must get.
        base_position: Next offset of `items` that this catalogue has not seen.
        provenance: Where it comes from; not part of its identity.

    Raises:
        BundleError: Something does not fit, or `out` is taken.
    """
    quantised_ND, scales_N = quantise(vectors_NW[:, layout.VECTOR])
    restored_ND = quantised_ND * scales_N.astype(np.float32)[:, None]
    files = {
        "features.json": spec.to_json(),
        "vocabulary.json": m.canonical(vocabulary.snapshot()),
        "items.bin": b"".join(len(record).to_bytes(4, "little") + record for record in map(encode, items)),
        "vectors.npy": _npy(vectors_NW.astype(np.float32)),
        "vectors_int8.npy": _npy(quantised_ND),
        "scales.npy": _npy(scales_N),
        "user_tower.onnx": user_tower,
        "item_tower.onnx": item_tower,
        "popular.json": m.canonical([[item, float(weight)] for item, weight in popular]),
        "golden.json": m.canonical(list(golden)),
    }
    if index is not None:
        files[m.INDEX] = index
    content = m.Content(
        format=m.FORMAT,
        items=len(items),
        dim=layout.dim(vectors_NW.shape[1]),
        features_hash=spec.hash,
        vocab_hash=vocabulary.hash,
        base_position=base_position,
        index=index_info,
        int8_max_abs_error=float(np.abs(restored_ND - vectors_NW[:, layout.VECTOR]).max(initial=0.0)),
        popular=len(popular),
        golden=len(golden),
        opsets=dict(opsets),
        files={name: m.FileEntry(len(data), hashlib.sha256(data).hexdigest()) for name, data in files.items()},
    )
    files[MANIFEST] = m.write_manifest(m.make_manifest(content, dict(provenance)))
    out = Path(out)
    if out.exists():
        raise BundleError(f"{out}: is there already; a bundle is never written over")
    out.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        work.chmod(0o755)
        for name, data in files.items():
            with (work / name).open("xb") as f:
                f.write(data)
                f.flush()
                os.fsync(f.fileno())
        bundle = open_bundle(work)  # what cannot be opened is not left behind
        _sync(work)
        work.rename(out)
        _sync(out.parent)
    except OSError as e:
        raise BundleError(f"{out}: cannot be written ({e.strerror})") from e
    finally:
        if work.exists():
            shutil.rmtree(work)
    return replace(bundle, path=out)  # its arrays are mapped already, whatever the folder is called


def open_bundle(path: Path) -> Bundle:
    """Opens a bundle and verifies everything in it.

    Raises:
        BundleError: There is no bundle, or something in it is not what its manifest says.
    """
    path = Path(path)
    try:
        return _open(path)
    except BundleError:
        raise
    except RecdistillError as e:
        raise BundleError(f"{path}: {e}") from e
    except OSError as e:
        raise BundleError(f"{path}: cannot be read ({e.strerror})") from e


def _open(path: Path) -> Bundle:
    if not (path / MANIFEST).is_file():
        raise BundleError(f"{path}: there is no bundle here; give the folder that holds {MANIFEST}")
    with _regular(path / MANIFEST) as f:
        manifest = m.read_manifest(f.read(m.MAX_BYTES + 1), source=str(path / MANIFEST))
    content = manifest.content
    names = set(m.FILES) | ({m.INDEX} if content.index.kind != "exact" else set())
    if set(content.files) != names:
        raise BundleError(f"{path}: the manifest must list {', '.join(sorted(names))}")
    if extra := {entry.name for entry in path.iterdir()} - names - {MANIFEST}:
        raise BundleError(f"{path / min(extra)}: does not belong to the bundle; a bundle holds what its manifest lists")
    arrays = {"vectors.npy": np.float32, "vectors_int8.npy": np.int8, "scales.npy": np.float16}
    data = {name: _read(path / name, content.files[name]) for name in sorted(names - set(arrays))}

    spec = FeatureSpec.from_json(data["features.json"])
    if spec.hash != content.features_hash:
        raise BundleError(f"{path / 'features.json'}: is not the specification that the manifest names")
    snapshot = _json(data["vocabulary.json"], dict[str, list[str | None]], path / "vocabulary.json")
    vocabulary = Vocabulary.restore(spec, snapshot)
    if vocabulary.hash != content.vocab_hash:
        raise BundleError(f"{path / 'vocabulary.json'}: is not the vocabulary that the manifest names")
    items = list(_items(data["items.bin"], path / "items.bin"))
    known = {item.id for item in items}
    if len(items) != content.items or len(known) != len(items) or any(item.withdrawn for item in items):
        raise BundleError(f"{path / 'items.bin'}: must hold {content.items} different items, none of them withdrawn")
    popular = _json(data["popular.json"], list[tuple[str, float]], path / "popular.json")
    golden = _json(data["golden.json"], list[Golden], path / "golden.json")
    named = {item for item, _ in popular} | {item for g in golden for item in g.items}
    if (len(popular), len(golden)) != (content.popular, content.golden) or not named <= known:
        raise BundleError(f"{path}: the popular list or the golden answers do not fit the items")

    count, dim = content.items, content.dim
    shapes = {"vectors.npy": (count, layout.width(dim)), "vectors_int8.npy": (count, dim), "scales.npy": (count,)}
    mapped = {n: _array(path / n, content.files[n], shapes[n], np.dtype(t)) for n, t in arrays.items()}
    if not np.isfinite(mapped["vectors.npy"]).all() or not np.isfinite(mapped["scales.npy"]).all():
        raise BundleError(f"{path}: a vector or a scale is not finite")
    return Bundle(
        path,
        manifest,
        spec,
        vocabulary,
        items,
        mapped["vectors.npy"],
        mapped["vectors_int8.npy"],
        mapped["scales.npy"],
        data["user_tower.onnx"],
        data["item_tower.onnx"],
        data.get(m.INDEX),
        popular,
        golden,
    )


def diff(old: Bundle, new: Bundle) -> dict[str, Any]:
    """What changed from one bundle to another.

    Returns:
        `same` (content hashes agree), `added`, `gone` and `changed` item ids (changed: another record), `moved`
        (largest difference of a vector's component over the items of both; None where their dimensions differ), `files`
        that differ.
    """
    before = {item.id: (slot, item) for slot, item in enumerate(old.items)}
    after = {item.id: (slot, item) for slot, item in enumerate(new.items)}
    both = [item for item in before if item in after]
    moved = None
    if old.manifest.content.dim == new.manifest.content.dim:
        slots_old, slots_new = [before[item][0] for item in both], [after[item][0] for item in both]
        difference = new.vectors_NW[slots_new, layout.VECTOR] - old.vectors_NW[slots_old, layout.VECTOR]
        moved = float(np.abs(difference).max(initial=0.0))
    files_old, files_new = old.manifest.content.files, new.manifest.content.files
    return {
        "same": old.content_hash == new.content_hash,
        "added": [item for item in after if item not in before],
        "gone": [item for item in before if item not in after],
        "changed": [item for item in both if before[item][1] != after[item][1]],
        "moved": moved,
        "files": sorted(n for n in files_old.keys() | files_new.keys() if files_old.get(n) != files_new.get(n)),
    }


def _regular(path: Path) -> BinaryIO:
    """Opens a plain file, never through a link."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError as e:
        raise BundleError(f"{path}: is missing; fetch or export the bundle again") from e
    except OSError as e:
        raise BundleError(f"{path}: cannot be read, or is a link ({e.strerror})") from e
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise BundleError(f"{path}: is not a plain file")
    return os.fdopen(descriptor, "rb")


def _check(path: Path, entry: m.FileEntry, size: int, sha256: str) -> None:
    if size != entry.size:
        raise BundleError(f"{path}: has {size} bytes, the manifest says {entry.size}; fetch or export the bundle again")
    if sha256 != entry.sha256:
        raise BundleError(f"{path}: was changed after the export; fetch or export the bundle again")


def _read(path: Path, entry: m.FileEntry) -> bytes:
    with _regular(path) as f:
        size = os.fstat(f.fileno()).st_size
        data = f.read() if size == entry.size else b""
    _check(path, entry, size, hashlib.sha256(data).hexdigest())
    return data


def _array(path: Path, entry: m.FileEntry, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """A verified .npy file, mapped."""
    with _regular(path) as f:
        digest = hashlib.sha256()
        while piece := f.read(_PIECE):
            digest.update(piece)
        _check(path, entry, f.tell(), digest.hexdigest())
        f.seek(0)
        try:
            if np.lib.format.read_magic(f) != (1, 0):
                raise ValueError("version")
            found = np.lib.format.read_array_header_1_0(f, max_header_size=1000)
        except (ValueError, SyntaxError, OverflowError, RecursionError) as e:
            raise BundleError(f"{path}: is not an array file of version 1.0; export the bundle again") from e
        start = f.tell()
        if found != (shape, False, dtype) or start + int(np.prod(shape)) * dtype.itemsize != entry.size:
            raise BundleError(f"{path}: holds {found[2]} {found[0]}, expected {dtype} {shape}")
        return np.memmap(f, dtype=dtype, mode="r", offset=start, shape=shape).view(np.ndarray)  # quicker to index


def _items(data: bytes, path: Path) -> Iterator[Item]:
    at = 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "little")
        record = data[at + 4 : at + 4 + length]
        if len(record) != length:
            raise BundleError(f"{path}: is cut short at byte {at}")
        yield decode(Item, record)
        at += 4 + length


def _json(data: bytes, kind: Any, path: Path) -> Any:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeError, ValueError, RecursionError) as e:
        raise BundleError(f"{path}: is not what this version writes: {e}") from e


def _npy(array: npt.NDArray[Any]) -> bytes:
    buffer = BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
