"""The manifest of a bundle: what it is made of (`content`) and where it comes from (`provenance`).

The file is the canonical JSON of the manifest, indented. Any other spelling of the same values is refused, so every
change of a byte is noticed. The content hash covers `content` only. `content` holds no clock, host or run id, so the
same content has the same hash on every build. `provenance_hash` only finds damage of the provenance.

`content.files` must name the files that every bundle has, and it may name more. `beside` names files that travel with
the bundle but do not change its identity: a signature over the content hash, for example.

It knows nothing of what is inside the files.

Example:
    >>> missing({"items.bin": FileEntry(0, "")}, index=False)[:2]
    ['features.json', 'golden.json']
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from recdistill.errors import BundleError
from recdistill.sealed import Count, FileEntry, FileName, Seal, Sha256, canonical, digest

FORMAT: Final = 1
SEAL: Final = Seal("manifest.json", most=4 << 20, error=BundleError, again="fetch or export the bundle again")
FILES: Final = (
    "features.json",
    "golden.json",
    "item_tower.onnx",
    "items.bin",
    "popular.json",
    "scales.npy",
    "user_tower.onnx",
    "vectors.npy",
    "vectors_int8.npy",
    "vocabulary.json",
)
INDEX: Final = "index.faiss"  # a bundle with exact search has none


class IndexInfo(Struct, frozen=True, forbid_unknown_fields=True):
    """How nearest items are found, and how well that was seen to work.

    `exact` needs no file: every item is scored. `ivf_sq8` is `index.faiss`: `lists` cells of 8-bit vectors, of which
    `probes` are searched; `recall` is the mean share of the true best `recall_at` items that `queries` user vectors
    found.
    """

    kind: Literal["exact", "ivf_sq8"]
    recall: Annotated[float, Meta(ge=0, le=1)] = 1.0
    recall_at: Count = 100
    queries: Count = 0
    lists: Count = 0
    probes: Count = 0


class Content(Struct, frozen=True, forbid_unknown_fields=True):
    """What a bundle is."""

    format: Literal[1]
    items: Annotated[int, Meta(ge=1, le=2**31 - 1, description="Live items, N.")]
    dim: Annotated[int, Meta(ge=1, le=4096, description="Dimension of user and item vectors, D.")]
    features_hash: Sha256
    vocab_hash: Sha256
    base_position: Annotated[int, Meta(ge=0, le=2**53, description="Next offset of `items`: where an overlay begins.")]
    index: IndexInfo
    int8_max_abs_error: Annotated[float, Meta(ge=0, description="Largest error of a component of an int8 item vector.")]
    popular: Annotated[int, Meta(ge=0, le=2**31 - 1, description="Length of the popular list.")]
    golden: Annotated[int, Meta(ge=0, le=100_000, description="Number of golden answers.")]
    opsets: dict[str, Annotated[int, Meta(ge=1, le=1000)]]
    files: dict[FileName, FileEntry]


class Manifest(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """`manifest.json`."""

    content: Content
    content_hash: Sha256
    provenance: dict[str, Any]
    provenance_hash: Sha256
    beside: Annotated[
        dict[FileName, FileEntry],
        Meta(description="Files that travel with the bundle and are no part of its identity."),
    ] = {}

    @property
    def files(self) -> dict[str, FileEntry]:
        """Every file of the bundle, without the manifest."""
        return self.content.files | self.beside


def missing(files: Mapping[str, FileEntry], *, index: bool) -> list[str]:
    """Names of the files that a bundle must have and that are not in `files`. `index`: it must have a search index."""
    return sorted({*FILES, *([INDEX] if index else [])} - files.keys())


def make_manifest(content: Content, provenance: dict[str, Any]) -> Manifest:
    """Puts content and provenance together with their hashes.

    Raises:
        BundleError: The provenance has no JSON form.
    """
    plain: dict[str, Any] = msgspec.json.decode(canonical(provenance, error=BundleError))
    return Manifest(content, digest(content), plain, digest(plain))


def write_manifest(manifest: Manifest) -> bytes:
    """The bytes of `manifest.json`."""
    return msgspec.json.format(canonical(manifest), indent=2) + b"\n"


def read_manifest(data: bytes, *, source: str) -> Manifest:
    """Parses `manifest.json` and checks both hashes and the spelling.

    Raises:
        BundleError: Something does not fit.
    """
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
        spelling = write_manifest(manifest)
    except (msgspec.MsgspecError, UnicodeError, ValueError, RecursionError) as e:
        raise BundleError(f"{source}: is not a manifest of format {FORMAT}: {e}; {SEAL.again}") from e
    if digest(manifest.content) != manifest.content_hash:
        raise BundleError(f"{source}: the content does not have the hash it states; {SEAL.again}")
    if digest(manifest.provenance) != manifest.provenance_hash or spelling != data:
        raise BundleError(f"{source}: was changed after the export; {SEAL.again}")
    return manifest


def schema() -> dict[str, Any]:
    """JSON Schema of `manifest.json`. `schemas/manifest.schema.json` is this schema."""
    found = msgspec.json.schema(Manifest)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "recdistill bundle manifest"} | found
