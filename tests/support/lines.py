"""Lines of films as MovieLens 1M has them, made by hand: each user goes round the same circle of films.

It knows nothing of what is tested with them.
"""

from __future__ import annotations

from pathlib import Path


def write_lines(folder: Path) -> None:
    """30 users, 20 films, 8 films of each user, as `sequences.tsv`."""
    rows = ["user\traw_user\tis_val\titems"]
    rows += [f"{n}\t{n}\t0\t" + " ".join(str((n + step) % 20 + 1) for step in range(8)) for n in range(30)]
    (folder / "sequences.tsv").write_text("\n".join(rows) + "\n")
