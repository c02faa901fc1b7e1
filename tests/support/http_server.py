"""The endpoint on a real socket, in a thread of the test's own process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from recdistill.config import RankSettings
from recdistill.serve.http.app import Keep, Ranker, create_app
from recdistill.serve.http.server import bind, serve


@contextmanager
def serving(ranker: Ranker, settings: RankSettings | None = None, *, keep: Keep | None = None) -> Iterator[str]:
    """Serves until the block ends; gives the address. Leaving it waits for the requests in flight."""
    settings = settings or RankSettings(port=0)
    listener, stop = bind(settings), threading.Event()
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    app = create_app(ranker, settings, keep=keep)
    thread = threading.Thread(target=serve, args=(app, ranker, listener, stop), daemon=True)
    thread.start()
    try:
        yield address
    finally:
        stop.set()
        thread.join(20)
        assert not thread.is_alive()
