"""The bundle, where the two islands meet: a directory that training writes and serving reads, under one hash.

| file | holds |
| --- | --- |
| `manifest.json` | what the bundle is, with size and digest of every file, and where it comes from |
| `features.json`, `vocabulary.json` | the feature specification; admitted values of each field, in row order |
| `items.bin` | the N live items in slot order: of each record its length (4 bytes, little-endian), then its wire form |
| `vectors.npy` | float32 `[N, D+2]`: vector, bias, weight in a history |
| `vectors_int8.npy`, `scales.npy` | int8 `[N, D]` and float16 `[N]`: a vector is about its int8 form times its scale |
| `user_tower.onnx`, `item_tower.onnx` | the towers |
| `index.faiss` | nearest items, for large catalogues only |
| `popular.json`, `golden.json` | popular items with their weights; requests with the answers they must get |

Opening verifies everything; a bundle in which any byte was changed, any file added, missing or replaced by a link, is
refused.

It does not know weights, torch or logs.

Example:
    >>> from pathlib import Path
    >>> open_bundle(Path("no/such/folder"))
    Traceback (most recent call last):
    recdistill.errors.BundleError: no/such/folder: there is no bundle here; give the folder that holds manifest.json
"""

from recdistill.bundle.files import Bundle, Golden, diff, open_bundle, quantise, write_bundle
from recdistill.bundle.index import build_index
from recdistill.bundle.kept import Hold, made, path_of, prune, reading
from recdistill.bundle.manifest import Content, FileEntry, IndexInfo, Manifest

__all__ = [
    "Bundle",
    "Content",
    "FileEntry",
    "Golden",
    "Hold",
    "IndexInfo",
    "Manifest",
    "build_index",
    "diff",
    "made",
    "open_bundle",
    "path_of",
    "prune",
    "quantise",
    "reading",
    "write_bundle",
]
