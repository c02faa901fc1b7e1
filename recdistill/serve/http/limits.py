"""All limits of the endpoint: what one request may ask for, how long a client may take, how much may wait.

It does not know sockets, bodies, or how a request is answered.

Example:
    >>> Limits(max_k=50).max_k
    50
"""

from __future__ import annotations

from msgspec import Struct


class Limits(Struct, frozen=True, kw_only=True):
    """How much one request, one client and all of them together may ask for.

    Args:
        max_k: How many items an answer may have.
        max_batch: How many requests one body may have.
        max_body: How many bytes one body may have.
        max_where: How many attributes one `where` may have.
        max_where_values: How many values one `where` may have, over all its attributes.
        max_head: How many bytes the head of a request may have.
        max_headers: How many header lines a request may have.
        head_s: How many seconds a head may take to arrive.
        body_s: How many seconds a body may take to arrive.
        idle_s: How many seconds a connection may stay open without a request.
        answer_s: How many seconds a client may take to receive an answer.
        max_connections: How many connections may be open. There are fewer if the process may not open so many files.
        max_connections_per_address: How many connections one address may have. 0: there is no such limit.
        max_bodies_mb: How many megabytes all bodies that are arriving may have together.
        queue: How many large bodies may wait for their turn.
        queue_s: How many seconds one of them may wait.
        drain_s: For how many seconds requests are still taken after the stop signal.
        origins: Web pages (`https://shop.example`) that may call the endpoint; `*`: every page.
    """

    max_k: int = 1000
    max_batch: int = 128
    max_body: int = 1 << 20
    max_where: int = 16
    max_where_values: int = 1000
    max_head: int = 16_384
    max_headers: int = 100
    head_s: float = 10.0
    body_s: float = 10.0
    idle_s: float = 75.0
    answer_s: float = 30.0
    max_connections: int = 10_000
    max_connections_per_address: int = 0
    max_bodies_mb: int = 64
    queue: int = 32
    queue_s: float = 5.0
    drain_s: float = 5.0
    origins: tuple[str, ...] = ()
