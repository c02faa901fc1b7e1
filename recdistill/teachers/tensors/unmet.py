"""Attributes that an input of the model is fed, and that no candidate has.

An input that is fed NaN or an empty text for every candidate answers one constant, and nobody notices. So a teacher
stops when it has seen many candidates and none of them had the attribute. Who wants a constant says so in `missing`.

It knows nothing of how a value is fed.

Example:
    >>> unmet = Unmet("teacher.onnx")
    >>> for n in range(ENOUGH):
    ...     unmet.saw("price", "price", "a number", fits=False, value="3.50")
    >>> unmet.check()  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    recdistill.errors.ConfigError: teacher.onnx.inputs.price: none of 200 candidates has a number in its attribute ...
"""

from __future__ import annotations

from typing import Any, Final

from recdistill.errors import ConfigError

ENOUGH: Final = 200
"""So many candidates must be without the attribute before it is said."""


class Unmet:
    """Follows each attribute that is fed, until one candidate has it.

    Args:
        section: Section of the settings, for the error.
    """

    def __init__(self, section: str) -> None:
        self._section = section
        self._met: set[tuple[str, str]] = set()
        self._tried: dict[tuple[str, str], int] = {}
        self._wanted: dict[tuple[str, str], tuple[str, Any]] = {}

    def saw(self, port: str, name: str, wanted: str, *, fits: bool, value: Any) -> None:
        """Looks at the attribute of one candidate that the catalogue holds.

        Args:
            port: Input of the model.
            name: The attribute.
            wanted: What the input takes: "a number".
            fits: Whether this candidate has it.
            value: What it has; None: nothing.
        """
        key = port, name
        if key in self._met:
            return
        if fits:
            self._met.add(key)
            self._tried.pop(key, None)
            return
        self._tried[key] = self._tried.get(key, 0) + 1
        if value is not None or key not in self._wanted:
            self._wanted[key] = wanted, value

    def check(self) -> None:
        """Looks at what was seen so far.

        Raises:
            ConfigError: An attribute that nobody has.
        """
        for (port, name), tried in self._tried.items():
            if tried < ENOUGH:
                continue
            wanted, value = self._wanted[port, name]
            has = f"it is {value!r} there" if value is not None else "no item has it"
            raise ConfigError(
                f"{self._section}.inputs.{port}: none of {tried:,} candidates has {wanted} in its attribute {name!r} "
                f"({has}), and the model would answer without it; correct the attribute at the import, or the name "
                f"here, or say in {self._section}.missing.{port} what is fed instead"
            )
