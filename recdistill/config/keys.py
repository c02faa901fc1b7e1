"""Settings of signatures: `[keys]`, with the meaning of every key.

They know nothing of files or of what is signed.

Example:
    >>> KeySettings().required
    'auto'
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct


class KeySettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[keys]`: who signs judgements and the ledger, and which signatures are trusted."""

    directory: Annotated[
        str,
        Meta(
            min_length=1,
            description="Folder of Ed25519 keys in PEM. `NAME.key` signs here; every `NAME.pub` is trusted. Without it "
            "nothing is signed. `recdistill keys make` makes a pair.",
        ),
    ] = "recdistill-data/keys"
    signer: Annotated[
        str,
        Meta(description="Name of the key that signs here. Empty: the one `.key` of the folder.", pattern="^[^/]*$"),
    ] = ""
    required: Annotated[
        Literal["auto", "always"],
        Meta(
            description="Whether judgements and the ledger must be signed. auto: yes, if the folder has a "
            "public key. always: yes, even if it has none; so a machine that lost its keys trusts nothing."
        ),
    ] = "auto"
