"""Two blocks of time, for the tests of their tables and of their benchmark."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

RANDOM = np.random.default_rng(0)


@pytest.fixture
def blocks_file(tmp_path: Path) -> Path:
    """Thirty users who like even or odd items; two blocks."""
    lines = ["block\tsplit\tuser\titem"]
    for user in range(30):
        liked = RANDOM.permutation(np.arange(user % 2, 60, 2))[:24]
        for block, part in ((0, liked[:14]), (1, liked[14:])):
            for at, item in enumerate(part):
                lines.append(f"{block}\t{'test' if at == 0 else 'valid' if at == 1 else 'train'}\t{user}\t{item}")
    path = tmp_path / "blocks.tsv"
    path.write_text("\n".join(lines) + "\n")
    return path
