"""All limits of the endpoint: what one request may ask for, how long a client may take, how much may wait.

It does not know sockets, bodies or what answers.

Example:
    >>> Limits(max_k=50).max_k
    50
"""

from __future__ import annotations

from msgspec import Struct


class Limits(Struct, frozen=True, kw_only=True):
    """How much one request, one client and all of them together may ask for.

    Args:
        max_k: Most items of an answer.
        max_batch: Most requests in one body.
        max_body: Most bytes in one body.
        max_where: Most attributes in one `where`.
        max_where_values: Most values in one `where`, those of all its attributes together.
        max_head: Most bytes in the head of a request.
        max_headers: Most header lines of a request.
        head_s: Longest time in which a head may arrive.
        body_s: Longest time in which a body may arrive.
        idle_s: How long a connection may stay open without a request.
        answer_s: Longest time in which the client must take an answer.
        max_connections: Most connections at once. Fewer, when the process may not open so many files.
        max_connections_per_address: Most connections from one address; 0: no such limit.
        max_bodies_mb: Most megabytes of bodies that are arriving, all together.
        queue: Most large bodies that may wait for their turn.
        queue_s: Longest time that one of them may wait.
        drain_s: How long requests are still taken after the stop signal.
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
