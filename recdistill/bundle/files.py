"""Writes, opens, verifies and compares bundles. The layout is in the header of the package.

Each file is read once: the bytes that were hashed are the bytes that are parsed. An array is mapped through the same
open file. A bundle is checked before it is written, so it need not be read again. This module does not run towers or
indexes.

Example:
    >>> open_bundle(Path("no/such/folder"))
    Traceback (most recent call last):
    recdistill.errors.BundleError: no/such/folder: there is no bundle here; give the folder that holds manifest.json
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from recdistill.bundle import manifest as m
from recdistill.errors import BundleError, RecdistillError
from recdistill.features import FeatureSpec, Vocabulary
from recdistill.model import layout, quantise
from recdistill.records import Event, Item, Value, decode, encode
from recdistill.sealed import canonical

MANIFEST: Final = m.SEAL.manifest
_ARRAYS: Final[dict[str, np.dtype[Any]]] = {
    "vectors.npy": np.dtype(np.float32),
    "vectors_int8.npy": np.dtype(np.int8),
    "scales.npy": np.dtype(np.float16),
}

Floats = npt.NDArray[np.float32]


class Golden(Struct, frozen=True, forbid_unknown_fields=True):
    """A request, and its best items with their scores. They come from exact search over the bundle's own catalogue."""

    history: tuple[Event, ...]
    context: dict[str, Value]
    time_us: int
    items: tuple[str, ...]
    scores: tuple[float, ...]


@dataclass(frozen=True)
class BundleFolder:
    """A bundle that nobody has opened: where it is, and what its manifest says.

    Args:
        path: Its folder.
        manifest: What it is and where it comes from.
    """

    path: Path
    manifest: m.Manifest

    @property
    def content_hash(self) -> str:
        """The bundle's identity: SHA-256 of the manifest's content."""
        return self.manifest.content_hash

    @property
    def size(self) -> int:
        """Bytes of its files, without the manifest."""
        return sum(entry.size for entry in self.manifest.files.values())


@dataclass(frozen=True)
class Bundle(BundleFolder):
    """An opened bundle. Everything in it is verified. N items, dimension D.

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

    def read(self, name: str) -> bytes:
        """Reads and verifies a file that the manifest names. For files that have no field here, such as a signature.

        Raises:
            BundleError: The manifest names no such file, or it has changed since.
        """
        if (entry := self.manifest.files.get(name)) is None:
            raise BundleError(f"{self.path / MANIFEST}: names no file {name!r}")
        return m.SEAL.read(self.path / name, entry)


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
    beside: Mapping[str, bytes] | None = None,
) -> Bundle:
    """Writes a bundle, whole or not at all, and opens it.

    Args:
        out: Its folder, which must not exist yet.
        spec: The feature specification.
        vocabulary: Admitted values.
        items: The N live items.
        vectors_NW: Vector, bias and history weight of each item.
        user_tower: Graph of the user tower.
        item_tower: Graph of the item tower.
        opsets: Operator sets that the graphs need.
        index: Bytes of the faiss index, None for exact search.
        index_info: What was measured of it.
        popular: Items with their weights, most popular first.
        golden: Requests with the answers they must get.
        base_position: Next offset of `items` that this catalogue has not seen.
        provenance: Where it comes from. It is not part of the bundle's identity.
        beside: Files that travel with it, by name. They are no part of its identity either.

    Raises:
        BundleError: Something does not fit, or `out` is taken.
    """
    quantised_ND, scales_N = quantise(vectors_NW[:, layout.VECTOR])
    restored_ND = quantised_ND * scales_N.astype(np.float32)[:, None]
    arrays: dict[str, npt.NDArray[Any]] = {
        "vectors.npy": np.ascontiguousarray(vectors_NW, np.float32),
        "vectors_int8.npy": quantised_ND,
        "scales.npy": scales_N,
    }
    data = {
        "features.json": spec.to_json(),
        "vocabulary.json": _json_of(vocabulary.snapshot()),
        "items.bin": b"".join(len(record).to_bytes(4, "little") + record for record in map(encode, items)),
        "user_tower.onnx": user_tower,
        "item_tower.onnx": item_tower,
        "popular.json": _json_of([[item, float(weight)] for item, weight in popular]),
        "golden.json": _json_of(list(golden)),
    }
    if index is not None:
        data[m.INDEX] = index
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
        files={},
    )
    out = Path(out)
    try:  # checked first: a bundle that could not be opened is not written
        bundle = _bundle(out, m.make_manifest(content, dict(provenance)), data, arrays)
    except BundleError:
        raise
    except RecdistillError as e:
        raise BundleError(f"{out}: {e}") from e
    if out.exists():
        raise BundleError(f"{out}: is there already; a bundle is never written over")
    with m.SEAL.draft(out) as draft:
        for name, file in data.items():
            draft.add(name, file)
        mapped = {}
        for name, array in arrays.items():
            with draft.file(name) as f:
                np.lib.format.write_array(f, array, version=(1, 0), allow_pickle=False)
            with (draft.path / name).open("rb") as written:
                mapped[name] = m.SEAL.mapped(written, draft.path / name, array.shape, array.dtype)
        content = msgspec.structs.replace(content, files=dict(draft.files))
        others = {name: draft.add(name, file) for name, file in (beside or {}).items()}
        manifest = msgspec.structs.replace(m.make_manifest(content, dict(provenance)), beside=others)
        draft.close(m.write_manifest(manifest))
    # The mapped arrays take no memory. They stay mapped when the folder gets its final name.
    return dataclasses.replace(
        bundle,
        manifest=manifest,
        vectors_NW=mapped["vectors.npy"],
        quantised_ND=mapped["vectors_int8.npy"],
        scales_N=mapped["scales.npy"],
    )


def bundle_folder(path: Path) -> BundleFolder:
    """A bundle's folder, every file verified against the manifest, and nothing opened.

    Raises:
        BundleError: There is no bundle, or a file is not what the manifest says.
    """
    manifest = m.read_manifest(m.SEAL.manifest_of(path), source=str(path / MANIFEST))
    m.SEAL.refuse_others(path, manifest.files)
    for name, entry in manifest.files.items():
        m.SEAL.opened(path / name, entry).close()
    return BundleFolder(path, manifest)


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
    manifest = m.read_manifest(m.SEAL.manifest_of(path), source=str(path / MANIFEST))
    content, files = manifest.content, manifest.files
    indexed = content.index.kind != "exact"
    if (lacking := m.missing(content.files, index=indexed)) or content.files.keys() & manifest.beside.keys():
        raise BundleError(f"{path / MANIFEST}: must name {', '.join(lacking) or 'each file once'}; {m.SEAL.again}")
    if not indexed and m.INDEX in files:
        raise BundleError(f"{path / MANIFEST}: names {m.INDEX}, though every item is scored; {m.SEAL.again}")
    m.SEAL.refuse_others(path, files)
    count, dim = content.items, content.dim
    shapes = {"vectors.npy": (count, dim + 2), "vectors_int8.npy": (count, dim), "scales.npy": (count,)}
    data: dict[str, bytes] = {}
    for name, entry in sorted(files.items()):
        if name in m.FILES or name == m.INDEX:
            if name not in _ARRAYS:
                data[name] = m.SEAL.read(path / name, entry)
        else:  # an unknown file is not used, but it is verified like the others
            m.SEAL.opened(path / name, entry).close()
    mapped = {name: m.SEAL.array(path / name, files[name], shapes[name], kind) for name, kind in _ARRAYS.items()}
    return _bundle(path, manifest, data, mapped)


def _bundle(
    path: Path, manifest: m.Manifest, data: Mapping[str, bytes], arrays: Mapping[str, npt.NDArray[Any]]
) -> Bundle:
    """Makes the bundle of these files. They must fit the manifest and each other.

    Args:
        path: Its folder.
        manifest: What it states of the files.
        data: Bytes by file name.
        arrays: Arrays by file name, of the right kinds.
    """
    content = manifest.content
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
    # An item twice would be twice in an answer; scores without items could not be compared.
    odd = len(popular) != len({item for item, _ in popular}) or any(
        not len(g.items) == len(set(g.items)) == len(g.scores) for g in golden
    )
    if (len(popular), len(golden)) != (content.popular, content.golden) or not named <= known or odd:
        raise BundleError(f"{path}: the popular list or the golden answers do not fit the items")
    if {len(array) for array in arrays.values()} != {content.items}:
        raise BundleError(f"{path}: must hold {content.items} vectors, as many as items")
    if not np.isfinite(arrays["vectors.npy"]).all() or not np.isfinite(arrays["scales.npy"]).all():
        raise BundleError(f"{path}: a vector or a scale is not finite")
    return Bundle(
        path=path,
        manifest=manifest,
        spec=spec,
        vocabulary=vocabulary,
        items=items,
        vectors_NW=arrays["vectors.npy"],
        quantised_ND=arrays["vectors_int8.npy"],
        scales_N=arrays["scales.npy"],
        user_tower=data["user_tower.onnx"],
        item_tower=data["item_tower.onnx"],
        index=data.get(m.INDEX),
        popular=popular,
        golden=golden,
    )


def diff(old: Bundle, new: Bundle) -> dict[str, Any]:
    """What changed from one bundle to another.

    Returns:
        `same`: whether the content hashes agree. `added`, `gone`, `changed`: item ids (`changed`: the record is another
        one). `moved`: largest difference of a vector's component, over the items of both bundles; None when the
        dimensions differ. `files`: names of the files that differ.
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


def _json_of(value: Any) -> bytes:
    return canonical(value, error=BundleError)
