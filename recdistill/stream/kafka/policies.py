"""Settings of topics that would lose records of the loop: what they are, and how to put them right.

It knows nothing of messages.

Example:
    >>> dangers({"topic": {"items": {"cleanup.policy": {"value": "delete"}, "retention.ms": {"value": "604800000"}}}}, "")
    ["topic 'items' deletes records after 7 days (cleanup.policy is delete): items that were not sent again since are missing from every catalogue; set cleanup.policy=compact on it"]
"""  # noqa: E501 - an answer in one line

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_DAY_MS = 24 * 3600 * 1000

_BY_KEY = {
    "feedback": "of two actions on one list only the newer one is kept",
    "impressions": "a list that is sent again hides the older one",
    "rankings": "a list that is scored again hides the older one",
    "examples": "the order in which students learn gets holes",
    "ledger": "entries that others name are missing",
    "held-out": "of two lists with one id the judge sees only the newer one",
    "dead-letters": "letters with one key hide each other",
}
"""What compaction does to the topics that are no table."""


def dangers(configs: Mapping[str, Mapping[str, Mapping[str, Any]]], prefix: str) -> list[str]:
    """One sentence for each topic of the loop whose settings lose records.

    Args:
        configs: Settings of topics, as the client describes them: kind, name, setting, `value`.
        prefix: Of the topics.
    """
    found = []
    for name, settings in sorted(configs.get("topic", {}).items()):
        topic = name[len(prefix) :]
        policy = {part.strip() for part in str(setting(settings, "cleanup.policy")).split(",")}
        after = int(setting(settings, "retention.ms") or -1)
        size = int(setting(settings, "retention.bytes") or -1)
        limits = [f"after {after / _DAY_MS:g} days"] if after >= 0 else []
        limits += [f"beyond {size:,} bytes"] if size >= 0 else []
        if topic == "ledger" and "delete" in policy and limits:
            found.append(
                f"topic {name!r} deletes records {' and '.join(limits)}: who changed the champion, and why, goes with "
                "them; set retention.ms=-1 and retention.bytes=-1 on it"
            )
        elif topic == "items" and "delete" in policy:
            if limits:
                found.append(
                    f"topic {name!r} deletes records {' and '.join(limits)} (cleanup.policy is "
                    f"{','.join(sorted(policy))}): items that were not sent again since are missing from every "
                    "catalogue; set cleanup.policy=compact on it"
                )
        elif topic in _BY_KEY and "compact" in policy:
            found.append(
                f"topic {name!r} is compacted (cleanup.policy is {','.join(sorted(policy))}): {_BY_KEY[topic]}; "
                "set cleanup.policy=delete on it"
            )
    return found


def setting(settings: Mapping[str, Any], name: str) -> Any:
    """The value of one setting of a topic, as the client describes it; None where it has none."""
    found = settings.get(name)
    return found.get("value") if isinstance(found, Mapping) else found
