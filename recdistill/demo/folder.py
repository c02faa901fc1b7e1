"""The output folder of a demo. The next demo may empty it, since it can see that a demo made it.

It knows nothing of what a demo does.

Example:
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     made = emptied(Path(folder) / "demo")
    ...     (made / "a file").touch()
    ...     print(sorted(file.name for file in emptied(made).iterdir()))
    ['recdistill-demo.json']
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from recdistill.errors import UsageError

MARKER: Final = "recdistill-demo.json"
"""A folder with this file was made by a demo. The next demo may empty it."""


def emptied(out: Path) -> Path:
    """The output folder. If an earlier demo made it, it is emptied first.

    Raises:
        UsageError: Somebody else made it, or it cannot be used.
    """
    if set("?%") & set(str(out.absolute())):
        raise UsageError(f"--output {out}: may not hold ? or %, since the registry's address holds it; name another")
    try:
        if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / MARKER).is_file())):
            raise UsageError(f"--output {out}: exists already and was not made by a demo; name another folder")
        out.mkdir(parents=True, exist_ok=True)
        (out / MARKER).write_text('{"made_by": "recdistill demo"}\n', encoding="utf-8")
        # The marker stays: a demo that is stopped here can be started again.
        for one in out.iterdir():
            if one.is_dir() and not one.is_symlink():
                shutil.rmtree(one)
            elif one.name != MARKER:
                one.unlink()
    except OSError as e:
        raise UsageError(f"--output {out}: cannot be used ({e.strerror or e}); name another folder") from e
    return out
