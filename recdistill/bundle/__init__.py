"""The bundle: a directory that training writes and serving reads. One hash covers its content.

| file | holds |
| --- | --- |
| `manifest.json` | what the bundle is, with size and digest of every file, and where it comes from |
| `features.json`, `vocabulary.json` | the feature specification; the values of each field, by row (`null`: free) |
| `items.bin` | the N live items in slot order. Each one: its length (4 bytes, little-endian), then its wire form |
| `vectors.npy` | float32 `[N, D+2]`: vector, bias, weight in a history |
| `vectors_int8.npy`, `scales.npy` | int8 `[N, D]` and float16 `[N]`: vector ≈ int8 vector × scale |
| `user_tower.onnx`, `item_tower.onnx` | the towers |
| `index.faiss` | the search index; only large catalogues have one |
| `popular.json`, `golden.json` | popular items with their weights; requests with the answers they must get |
| `tally.msgpack` | beside it: popularity and ItemKNN of what was learnt, for the judge; older bundles have none |

Opening a bundle verifies everything. A bundle is refused when a byte was changed, when a file is missing or is a link,
and when it holds a file that the manifest does not name. A manifest may name more files than these.

Other rooms may also import two modules of this room: `build` (from weights to a bundle) and `golden`. Write
`from recdistill.bundle import build`. `build` needs onnx, so it is not imported here.

It knows nothing of torch or of logs.

Example:
    >>> from pathlib import Path
    >>> open_bundle(Path("no/such/folder"))
    Traceback (most recent call last):
    recdistill.errors.BundleError: no/such/folder: there is no bundle here; give the folder that holds manifest.json
"""

from recdistill.bundle.files import (
    Bundle,
    BundleFolder,
    Golden,
    bundle_folder,
    diff,
    open_bundle,
    write_bundle,
)
from recdistill.bundle.index import build_index, read_index, search_index, with_one
from recdistill.bundle.kept import Hold, made, path_of, prune, reading
from recdistill.bundle.manifest import SEAL, Content, IndexInfo, Manifest, read_manifest

__all__ = [
    "SEAL",
    "Bundle",
    "BundleFolder",
    "Content",
    "Golden",
    "Hold",
    "IndexInfo",
    "Manifest",
    "build_index",
    "bundle_folder",
    "diff",
    "made",
    "open_bundle",
    "path_of",
    "prune",
    "read_index",
    "read_manifest",
    "reading",
    "search_index",
    "with_one",
    "write_bundle",
]
