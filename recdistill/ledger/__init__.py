"""The ledger: signed entries in a chain, on a topic. They say who changed the champion and what the judge measured.

| file | holds |
| --- | --- |
| `note.py` | a text, its digest and its signature, byte for byte |
| `keys.py` | Ed25519 keys in a folder |
| `entry.py` | what an entry says |
| `chain.py` | each entry names the one before it; an entry with a fault is reported, and work goes on |
| `state.py` | the present state of one model, from all its entries |
| `topic.py` | the topic, which has one writer at a time |
| `verify.py` | checks that nothing is missing or changed |

The alias in MLflow says which version serves. The ledger says who changed the alias, when and why. It is kept for ever.

It knows nothing of MLflow, judgements or bundles: an entry only holds their names.

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
