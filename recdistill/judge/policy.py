"""The policy: what the gate asks of a candidate. It is `[gate]` of the settings, as plain values.

It knows nothing of settings, figures or verdicts.

Example:
    >>> Asked(retention=0.5).retention
    0.5
"""

from __future__ import annotations

from msgspec import Struct, convert, to_builtins


class Rule(Struct, frozen=True, kw_only=True):
    """The share of the items in the first ten places that may have a value of an attribute: from `least` to `most`."""

    attribute: str
    value: str
    least: float = 0.0
    most: float = 1.0


class Asked(Struct, frozen=True, kw_only=True):
    """What the gate asks for. The defaults are those of `[gate]`; docs/configuration.md says what each one means."""

    retention: float = 0.95
    champion: float = 0.95
    not_below_champion: bool = True
    error_a_year: float = 0.05
    tries_a_year: int = 50
    beats_popularity: bool = True
    beats: list[str] = []
    slice_loss: float = 0.05
    slices: list[str] = []
    parity: float = 1e-4
    device: float = 0.9
    size_ratio: float = 0.0
    most_bytes: int = 0
    processor_ms: float = 0.0
    fresh_s: float = 0.0
    blocked: list[str] = []
    rules: list[Rule] = []
    min_lists: int = 200

    @classmethod
    def by(cls, section: object) -> Asked:
        """Makes it from any object that has these fields, such as a section of settings."""
        return convert({name: to_builtins(getattr(section, name)) for name in cls.__struct_fields__}, type=cls)
