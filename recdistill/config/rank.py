"""`[rank]`: the endpoint, what it follows, and every limit on those who ask it.

It knows nothing of the other sections.

Example:
    >>> RankSettings().max_headers
    100
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

Seconds = Annotated[float, Meta(gt=0, le=86_400)]
"""A time that a loop waits. At most a day: longer waits are mistakes, and very long ones no system can wait."""


class RankSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[rank]`: the HTTP endpoint, which answers requests."""

    host: Annotated[
        str,
        Meta(
            description="Address of this machine that takes requests. 127.0.0.1: only from this machine. 0.0.0.0: "
            "from everywhere."
        ),
    ] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="Port. 0: a free one.")] = 8080
    follow_s: Annotated[Seconds, Meta(description="Seconds between two looks at which version is the champion.")] = 2.0
    items_s: Annotated[Seconds, Meta(description="Seconds between two reads of new items from the log.")] = 0.5
    items_from: Annotated[
        Literal["", "beginning", "latest"],
        Meta(
            description="Which items are taken from the log, if the bundle was made with another log. "
            "beginning: all of this log. latest: only those that come from now on. Empty: none, so only the "
            "bundle's own items serve, and a warning says so."
        ),
    ] = ""
    threads: Annotated[int, Meta(ge=1, le=1024, description="Threads of one inference.")] = 1
    warm_mb: Annotated[
        int,
        Meta(
            ge=0,
            le=1 << 20,
            description="The previous champion stays open, so that a rollback is quick, if its files have at "
            "most so many megabytes. An open bundle with many items needs about twice as much memory. 0: it "
            "does not stay open.",
        ),
    ] = 1024
    write_back: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description="Share of the answers that are written to the topic `impressions`, with the origin "
            "`served`. 0: none.",
        ),
    ] = 0.0
    explore_share: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description="Share of the written answers in which one item, chosen at random, is put at another "
            "place. Each written answer says with which chance each item is at its place. 0: none.",
        ),
    ] = 0.0
    explore_first: Annotated[
        int,
        Meta(ge=1, le=10_000, description="Places before this one never change. 1: the first place may change too."),
    ] = 4
    explore_pool: Annotated[
        int,
        Meta(
            ge=0,
            le=10_000,
            description="The item is chosen from the items at that place and after it, and from so many more "
            "that come after the answer.",
        ),
    ] = 10
    origins: Annotated[
        list[Annotated[str, Meta(pattern=r"^(\*|https?://[A-Za-z0-9.:\[\]_-]+)$")]],
        Meta(
            description="Web pages that may call the endpoint from a browser: `https://shop.example`. `*`: every page. "
            "Programs that are no browser may always call."
        ),
    ] = []
    max_k: Annotated[int, Meta(ge=1, le=10_000, description="Most items of an answer.")] = 1000
    max_batch: Annotated[int, Meta(ge=1, le=10_000, description="Most requests in one body.")] = 128
    max_body: Annotated[int, Meta(ge=1024, le=1 << 30, description="Most bytes in one body.")] = 1_048_576
    max_bodies_mb: Annotated[
        int,
        Meta(ge=1, le=1 << 20, description="Most megabytes of all bodies together that are arriving at one moment."),
    ] = 64
    max_where: Annotated[int, Meta(ge=1, le=256, description="Most attributes in one `where`.")] = 16
    max_where_values: Annotated[
        int, Meta(ge=1, le=100_000, description="Most values in one `where`, those of all attributes together.")
    ] = 1000
    max_head: Annotated[int, Meta(ge=1024, le=1 << 20, description="Most bytes in the head of a request.")] = 16_384
    max_headers: Annotated[int, Meta(ge=8, le=1000, description="Most header lines of a request.")] = 100
    max_connections: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="Most connections at once. There are fewer if the process may not open so many "
            "files. When all are in use, those that have had no request for the longest time are closed.",
        ),
    ] = 10_000
    max_connections_per_address: Annotated[
        int,
        Meta(
            ge=0,
            le=1_000_000,
            description="Most connections from one address; 0: no such limit. Leave it 0 behind a proxy, because then "
            "all requests come from one address.",
        ),
    ] = 0
    head_s: Annotated[Seconds, Meta(description="Longest time in which the head of a request may arrive.")] = 10.0
    body_s: Annotated[Seconds, Meta(description="Longest time in which a body may arrive.")] = 10.0
    idle_s: Annotated[Seconds, Meta(description="How long a connection may stay open without a request.")] = 75.0
    answer_s: Annotated[Seconds, Meta(description="Longest time in which the client must take an answer.")] = 30.0
    queue: Annotated[
        int, Meta(ge=1, le=100_000, description="Most large bodies that may wait for their turn. More get status 429.")
    ] = 32
    queue_s: Annotated[
        Seconds, Meta(description="Longest time that one of them may wait. Then it gets status 503.")
    ] = 5.0
    drain_s: Annotated[
        float,
        Meta(
            ge=0,
            le=3600,
            description="Seconds. After the stop signal, requests are still answered for so long, while "
            "`/readyz` says 503.",
        ),
    ] = 5.0
