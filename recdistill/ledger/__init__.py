"""Who changed the champion, when and why, and what the judge measured: signed entries in a chain, on a topic.

| file | holds |
| --- | --- |
| `note.py` | a text, its digest and its signature, byte for byte |
| `keys.py` | Ed25519 keys in a folder |
| `entry.py` | what an entry says |
| `chain.py` | each entry names the one before it; what is wrong is said, and stops nobody |
| `state.py` | what the entries of one model say together |
| `topic.py` | the topic, and its one writer at a time |
| `verify.py` | whether all of it is there, as it was written |

The alias in MLflow says what serves. The ledger says who changed it and why. It is kept for ever.

It knows nothing of MLflow, judgements or bundles: an entry carries their names.

Example:
    >>> read(ENTRY, write(ENTRY, b"{}", None), None).payload
    b'{}'
"""

from recdistill.ledger.chain import ENTRY, Chain, Link
from recdistill.ledger.entry import CLAIMS, START, Entry, read_entry, write_entry
from recdistill.ledger.keys import NO_KEYS, Key, Keys, Required, list_keys, make_key, open_keys
from recdistill.ledger.note import Note, attach, detach, digest, read, write
from recdistill.ledger.state import Change, Judged, State, Waiver
from recdistill.ledger.topic import Ledger, Writer, newest_head, now
from recdistill.ledger.verify import Verified, check_head, unprotected, verify

__all__ = [
    "CLAIMS",
    "ENTRY",
    "NO_KEYS",
    "START",
    "Chain",
    "Change",
    "Entry",
    "Judged",
    "Key",
    "Keys",
    "Ledger",
    "Link",
    "Note",
    "Required",
    "State",
    "Verified",
    "Waiver",
    "Writer",
    "attach",
    "check_head",
    "detach",
    "digest",
    "list_keys",
    "make_key",
    "newest_head",
    "now",
    "open_keys",
    "read",
    "read_entry",
    "unprotected",
    "verify",
    "write",
    "write_entry",
]
