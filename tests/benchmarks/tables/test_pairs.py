"""Three files of pairs: what is read, and one sentence for what is not."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.tables.pairs import read_pairs
from recdistill.errors import DataError


def write(folder: Path, *texts: str) -> list[Path]:
    paths = [folder / name for name in ("train.tsv", "valid.tsv", "test.tsv")]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text, encoding="utf-8")
    return paths


def test_matrices_hold_exactly_the_pairs(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    drawn = rng.permutation(30 * 40)[:300]
    parts = [drawn[:200], drawn[200:250], drawn[250:]]
    texts = ["".join(f"u{n // 40}\ti{n % 40}\n" for n in part) for part in parts]
    pairs = read_pairs(*write(tmp_path, *texts))
    for matrix, part in zip((pairs.train_UN, pairs.valid_UN, pairs.test_UN), parts, strict=True):
        held = {(pairs.users[u], pairs.items[i]) for u, i in zip(*matrix.nonzero(), strict=True)}
        assert held == {(f"u{n // 40}", f"i{n % 40}") for n in part}
        assert set(matrix.data.tolist()) == {1.0}
        assert matrix.shape == (len(pairs.users), len(pairs.items))


def test_a_pair_that_stands_twice_in_a_part_counts_once(tmp_path: Path) -> None:
    pairs = read_pairs(*write(tmp_path, "u\ta\nu\ta\n", "u\tb\n", "u\tc\n"))
    assert pairs.train_UN.sum() == 1.0


WRONG = [
    (("u\ta\nu a\n", "u\tb\n", "u\tc\n"), "train.tsv, line 2: 'u a' is not user<TAB>item"),
    (("u\ta\tb\n", "u\tb\n", "u\tc\n"), "train.tsv, line 1"),
    (("\ta\n", "u\tb\n", "u\tc\n"), "train.tsv, line 1"),
    (("u\ta\n", "", "u\tc\n"), "valid.tsv: holds no pair"),
    (("u\ta\n", "u\tb\n", "u\ta\n"), "test.tsv, line 1: user 'u' and item 'a' stand in"),
]


@pytest.mark.parametrize(("texts", "says"), WRONG)
def test_what_is_no_pair_is_named(tmp_path: Path, texts: tuple[str, str, str], says: str) -> None:
    with pytest.raises(DataError) as caught:
        read_pairs(*write(tmp_path, *texts))
    assert says in str(caught.value)


def test_a_file_that_is_absent_or_no_text(tmp_path: Path) -> None:
    paths = write(tmp_path, "u\ta\n", "u\tb\n", "u\tc\n")
    with pytest.raises(DataError, match="cannot be read"):
        read_pairs(paths[0], paths[1], tmp_path / "none.tsv")
    paths[2].write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="is not UTF-8"):
        read_pairs(*paths)
