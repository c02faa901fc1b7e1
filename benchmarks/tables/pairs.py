r"""Three files of `user<TAB>item`: the benchmarks' form of a data set, as matrices of users × items.

Users and items get their numbers in the order in which they first appear: in train, then valid, then test. An item that
only the test part holds is an item of the catalogue, too, as in the published protocols.

It knows nothing of protocols, models or records.

Example:
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name, text in (("a", "u\tx\nu\ty\nv\tx\n"), ("b", "u\tz\n"), ("c", "v\ty\n")):
    ...         _ = Path(folder, name).write_text(text)
    ...     pairs = read_pairs(*(Path(folder, name) for name in "abc"))
    >>> pairs.items, pairs.train_UN.toarray().tolist(), pairs.test_UN.toarray().tolist()
    (['x', 'y', 'z'], [[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]], [[0.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from recdistill.errors import DataError


class Pairs(NamedTuple):
    """Who had what: scipy CSR matrices of ones, float32, users × items, all of one shape."""

    users: list[str]
    items: list[str]
    train_UN: Any
    valid_UN: Any
    test_UN: Any


def read_pairs(train: Path, valid: Path, test: Path) -> Pairs:
    """Reads the three parts; a pair that stands twice in a part counts once.

    Raises:
        DataError: A file cannot be read or a line is no pair, a part is empty, or a pair stands in two parts.
    """
    users: dict[str, int] = {}
    items: dict[str, int] = {}
    parts = []
    found: dict[tuple[int, int], Path] = {}
    for path in (train, valid, test):
        cells = []
        for line, (user, item) in enumerate(_lines(path), 1):
            pair = (users.setdefault(user, len(users)), items.setdefault(item, len(items)))
            if found.setdefault(pair, path) is not path:
                raise DataError(
                    f"{path}, line {line}: user {user!r} and item {item!r} stand in {found[pair]} too; "
                    "what is asked for must not have been learnt from"
                )
            cells.append(pair)
        if not cells:
            raise DataError(f"{path}: holds no pair; each line is user<TAB>item")
        parts.append(np.array(cells, np.int64))
    shape = (len(users), len(items))
    return Pairs(list(users), list(items), *(_matrix(part, shape) for part in parts))


def _lines(path: Path) -> list[tuple[str, str]]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as e:
        raise DataError(f"{path}: cannot be read ({e.strerror or e})") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: is not UTF-8 text; each line is user<TAB>item") from None
    pairs = []
    for number, line in enumerate(text.splitlines(), 1):
        user, _, item = line.partition("\t")
        if not user or not item or "\t" in item:
            raise DataError(f"{path}, line {number}: {line[:60]!r} is not user<TAB>item")
        pairs.append((user, item))
    return pairs


def _matrix(pairs_E2: np.ndarray, shape: tuple[int, int]) -> Any:
    from scipy import sparse

    ones = np.ones(len(pairs_E2), np.float32)
    matrix = sparse.csr_matrix((ones, (pairs_E2[:, 0], pairs_E2[:, 1])), shape=shape)
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    matrix.sort_indices()
    return matrix
