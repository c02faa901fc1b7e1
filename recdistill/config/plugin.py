"""Loads functions that the settings name as `package.module:function`. The operator must trust this code.

It knows nothing of what a function is for.

Example:
    >>> load_function("math:sqrt", setting="teacher.function")(9.0)
    3.0
"""

from __future__ import annotations

import importlib
from typing import Any

from recdistill.errors import ConfigError


def load_function(name: str, *, setting: str = "teacher.function") -> Any:
    """Imports `package.module:function`.

    Args:
        name: The function.
        setting: The setting that holds the name, for the error.

    Raises:
        ConfigError: The name does not have that form, or it does not lead to a function.
    """
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise ConfigError(f"{setting}: {name!r} is not of the form 'package.module:function'")
    try:
        function = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as e:
        raise ConfigError(f"{setting}: {name!r} cannot be imported: {e}") from e
    if not callable(function):
        raise ConfigError(f"{setting}: {name!r} is a {type(function).__name__}, not a function")
    return function
