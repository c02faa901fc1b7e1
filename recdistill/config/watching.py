"""Settings of whoever watches: `[status]`, whom `recdistill status` asks, and `[tell]`, who is told of verdicts.

They know nothing of files, the environment, or what the parts do with them.

Example:
    >>> TellSettings().on
    ['refused', 'promoted', 'broken', 'ledger']
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct


class StatusSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[status]`: what `recdistill status` asks beside the log, the folders and the registry."""

    processes: Annotated[
        dict[str, str],
        Meta(
            description="Name -> `host:port` of the processes whose `/readyz` and `/metrics` are asked, as in `{scorer "
            '= "scorer:8081", ranker = "ranker:8080"}`. Empty: none is asked.'
        ),
    ] = {}
    timeout_s: Annotated[float, Meta(gt=0, le=60, description="Longest wait for each answer of a process.")] = 2.0
    every_s: Annotated[float, Meta(gt=0, le=3600, description="`status --serve`: how often the page is made anew.")] = (
        5.0
    )
    processor_hour: Annotated[
        float,
        Meta(
            ge=0,
            description="What an hour of one processor costs you, in your money: the live demo shows by it what 1,000 "
            "answers cost. 0: they are shown in processor seconds alone.",
        ),
    ] = 0.04


class TellSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[tell]`: a web address that gets a message when the promoter decides something."""

    webhook: Annotated[
        str,
        Meta(
            description="An http(s) address that gets a JSON message by POST. Empty: nobody is told.",
            pattern=r"^(https?://[^\s]+)?$",
        ),
    ] = ""
    on: Annotated[
        list[Literal["refused", "promoted", "passed", "broken", "trimmed", "ledger"]],
        Meta(
            description="What is told. refused: a version did not pass the gate, or may not be promoted. "
            "promoted: a version is the new champion. passed: a version passed the gate, and "
            "`promote.automatic` is false. broken: a bundle cannot be judged. trimmed: old records were "
            "deleted. ledger: somebody moved the alias by hand, or an entry of the ledger was changed."
        ),
    ] = msgspec.field(default_factory=lambda: ["refused", "promoted", "broken", "ledger"])
    timeout_s: Annotated[float, Meta(gt=0, le=60, description="Longest wait for one answer.")] = 5.0
    tries: Annotated[
        int,
        Meta(
            ge=1,
            le=10,
            description="How often a message is sent, until the address takes it. Each pause is twice the one before.",
        ),
    ] = 4
