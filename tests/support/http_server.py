"""The endpoint on a real socket, in a thread of the test process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from recdistill.serve import Explore
from recdistill.serve.http import Keep, Limits, Ranker, bind, create_app, serve


@contextmanager
def serving(
    ranker: Ranker,
    limits: Limits | None = None,
    *,
    write_back: float = 0.0,
    keep: Keep | None = None,
    explore: Explore | None = None,
    shadow: float = 0.0,
    drain_s: float = 0.0,
) -> Iterator[str]:
    """Serves until the block ends, and gives the address. At the end it waits for running requests."""
    limits = msgspec.structs.replace(limits or Limits(), drain_s=min(drain_s, (limits or Limits()).drain_s))
    listener, stop = bind("127.0.0.1", 0), threading.Event()
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    app = create_app(ranker, limits, write_back=write_back, keep=keep, explore=explore, shadow=shadow)
    thread = threading.Thread(target=serve, args=(app, ranker, listener, stop), daemon=True)
    thread.start()
    try:
        yield address
    finally:
        stop.set()
        thread.join(20)
        assert not thread.is_alive()
