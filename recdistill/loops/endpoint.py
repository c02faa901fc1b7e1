"""Opens what the ranker needs and runs it: here settings become the parts of the endpoint.

The command line and the process in `services/` both start it here. It knows nothing of terminals or signals.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

from recdistill.config import Settings
from recdistill.errors import ConfigError
from recdistill.loops.opened import champion_of, log_if_there, trial_of
from recdistill.progress import Progress

log_ = logging.getLogger(__name__)


def rank(
    settings: Settings, stop: threading.Event, _drain: bool, counts: Counter[str], _progress: Progress | None
) -> Counter[str]:
    """Runs the ranker; it serves until it is stopped, so there is nothing to drain."""
    return serve(settings, stop, counts)


def serve(
    settings: Settings,
    stop: threading.Event,
    counts: Counter[str] | None = None,
    *,
    bundle: Path | None = None,
    started: Callable[[str, int], None] | None = None,
) -> Counter[str]:
    """Runs the ranker.

    Args:
        settings: Everything.
        stop: The stop signal.
        counts: Counts to add to; new ones when None.
        bundle: Serve this folder and follow no registry.
        started: Told host and port once connections are accepted.
    """
    from recdistill.loops import rank as loop
    from recdistill.serve import Explore
    from recdistill.serve.http import Limits, bind, create_app

    chosen, log = settings.rank, settings.log
    same = {name: getattr(chosen, name) for name in Limits.__struct_fields__}  # a limit has the name of its setting
    limits = Limits(**same | {"origins": tuple(chosen.origins)})
    if chosen.explore_share > 0 and chosen.write_back == 0:
        raise ConfigError(
            f"rank.explore_share is {chosen.explore_share:g}, but rank.write_back is 0, so nobody could learn from it: "
            "set rank.write_back, 1 for every answer"
        )
    if settings.canary.share > 0 and settings.canary.automatic and chosen.write_back == 0:
        log_.warning(
            "canary.share is %g, but rank.write_back is 0: unless your product writes the served lists itself, nobody "
            "sees what users did, so a canary never ends and no version becomes the champion; set rank.write_back = 1",
            settings.canary.share,
        )
    if settings.canary.shadow > 0 and settings.canary.share == 0:
        log_.warning(
            "canary.shadow is %g, but canary.share is 0: there is no canary that could be asked", settings.canary.shadow
        )
    explore = Explore(chosen.explore_share, chosen.explore_first, chosen.explore_pool)

    return loop.run(
        champion_of(settings) if bundle is None else bundle,
        listen=lambda: bind(chosen.host, chosen.port),
        app=lambda ranker, keep: create_app(
            ranker,
            limits,
            write_back=chosen.write_back,
            keep=keep,
            explore=explore,
            shadow=settings.canary.shadow,
        ),
        read_log=partial(log_if_there, log),
        write_back=chosen.write_back > 0,
        threads=chosen.threads,
        follow_s=chosen.follow_s,
        items_s=chosen.items_s,
        items_from=chosen.items_from,
        try_it=trial_of(settings),
        warm_bytes=chosen.warm_mb << 20,
        share=settings.canary.share,
        stop=stop,
        counts=counts,
        started=started,
    )
