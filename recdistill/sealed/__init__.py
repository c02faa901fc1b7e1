"""A folder of files that is written whole or not at all, and verified when it is read.

One of its files is the manifest. It names every other file with its size and its SHA-256, so it is written last. The
list is open: a folder may hold more files than a room asks for, if its manifest names them. So a signature, a shard or
a delta can be added later.

| file | holds |
| --- | --- |
| `entry.py` | what a manifest says of one file; canonical JSON and its digest |
| `folder.py` | `Seal`: one kind of folder, how it is written and read |
| `pieces.py` | arrays and JSON piece by piece |
| `full.py` | `disk_is_full`: whether an error says that there is no space left |
| `hidden.py` | names that nothing reads, and how leftovers of killed writers are swept |
| `small.py` | one small file that is written whole or not at all |

It knows nothing of bundles, checkpoints, teachers or torch.

Example:
    >>> import tempfile
    >>> from pathlib import Path
    >>> from recdistill.errors import DataError
    >>> seal = Seal("manifest.json", most=1000, error=DataError, again="copy it again")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with seal.draft(Path(folder) / "note") as draft:
    ...         entry = draft.add("text.txt", b"hello")
    ...         _ = draft.close(canonical({"text.txt": entry}))
    ...     seal.read(Path(folder) / "note" / "text.txt", entry)
    b'hello'
"""

from recdistill.sealed import pieces
from recdistill.sealed.entry import Count, FileEntry, FileName, Sha256, canonical, digest, entry_of
from recdistill.sealed.folder import Draft, Seal
from recdistill.sealed.full import disk_is_full, folder_of
from recdistill.sealed.hidden import discard, flush, remove, sweep
from recdistill.sealed.small import put

__all__ = [
    "Count",
    "Draft",
    "FileEntry",
    "FileName",
    "Seal",
    "Sha256",
    "canonical",
    "digest",
    "discard",
    "disk_is_full",
    "entry_of",
    "flush",
    "folder_of",
    "pieces",
    "put",
    "remove",
    "sweep",
]
