"""The walk over `index.faiss`: what recdistill writes passes, and nothing else does."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import pytest

from recdistill.bundle.faiss_file import check

COUNT, WIDTH, LISTS = 400, 5, 16


def keys(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(COUNT, WIDTH)).astype(np.float32)


def inverted(kind: int = faiss.ScalarQuantizer.QT_8bit, metric: int = faiss.METRIC_INNER_PRODUCT) -> faiss.Index:
    quantizer = faiss.IndexFlatIP(WIDTH)
    index = faiss.IndexIVFScalarQuantizer(quantizer, WIDTH, LISTS, kind, metric, False)
    quantizer.this.disown()
    index.own_fields = True
    index.train(keys())
    return index


def written(index: faiss.Index) -> bytes:
    return faiss.serialize_index(index).tobytes()


def good() -> bytes:
    index = inverted()
    index.add(keys())
    return written(index)


def refused(data: bytes) -> str:
    with pytest.raises(ValueError, match=".") as caught:
        check(data, count=COUNT, width=WIDTH, lists=LISTS)
    return str(caught.value)


def test_what_recdistill_writes_passes_also_with_many_empty_cells() -> None:
    check(good(), count=COUNT, width=WIDTH, lists=LISTS)
    index = inverted()
    index.add(np.repeat(keys()[:1], COUNT, 0))  # all in one cell: faiss writes the sizes in its sparse form
    data = written(index)
    assert b"sprs" in data
    check(data, count=COUNT, width=WIDTH, lists=LISTS)


def test_an_index_that_lies_in_another_file_is_refused_and_the_file_is_not_touched(tmp_path: Path) -> None:
    index = inverted()
    index.add(keys())
    lists = faiss.OnDiskInvertedLists(LISTS, index.code_size, str(tmp_path / "elsewhere"))
    lists.merge_from_1(faiss.extract_index_ivf(index).invlists)
    index.replace_invlists(lists, False)
    data = written(index)
    assert str(tmp_path / "elsewhere").encode() in data
    assert "b'ilod'" in refused(data)


@pytest.mark.many
@pytest.mark.parametrize("name", ["Flat", "HNSW8", "PQ5x4", "IVF16,Flat", "IVF16,PQ5x4", "PCA4,Flat"])
def test_other_kinds_of_index_are_refused(name: str) -> None:
    index = faiss.index_factory(WIDTH, name, faiss.METRIC_INNER_PRODUCT)
    index.train(keys())
    index.add(keys())
    assert "b'IwSq'" in refused(written(index))


def test_an_index_that_answers_one_key_many_times_is_refused() -> None:
    index = inverted()
    index.add_with_ids(keys(), np.zeros(COUNT, np.int64))
    assert refused(written(index)) == "names a key twice, and another one never"
    index.reset()
    index.add_with_ids(keys(), np.arange(1, COUNT + 1))
    assert refused(written(index)) == f"names a key outside of 0 to {COUNT - 1}"


def test_another_code_or_metric_is_refused() -> None:
    for index in (inverted(faiss.ScalarQuantizer.QT_4bit), inverted(metric=faiss.METRIC_L2)):
        index.add(keys())
        refused(written(index))


def test_no_length_of_a_cut_file_passes_nor_does_a_longer_one() -> None:
    data = good()
    for size in range(0, len(data), 7):
        refused(data[:size])
    assert refused(data + b"x") == "has 1 bytes too many at its end"


def test_whatever_passes_is_safe_to_open_and_search() -> None:
    """Flips single bits. faiss reads what still passes, and finds no key twice and none that is not there."""
    data, chance = good(), np.random.default_rng(1)
    passed = 0
    for at in np.concatenate([np.arange(300), chance.integers(0, len(data), 700)]).tolist():
        flipped = bytearray(data)
        flipped[at] ^= 1 << int(chance.integers(8))
        try:
            check(bytes(flipped), count=COUNT, width=WIDTH, lists=LISTS)
        except ValueError:
            continue
        passed += 1
        index = faiss.deserialize_index(np.frombuffer(bytes(flipped), np.uint8))
        parameters = faiss.SearchParametersIVF(nprobe=LISTS)
        _, found = index.search(keys(2)[:3], COUNT, params=parameters)
        real = found[0][found[0] >= 0]  # faiss gives -1 for a score that is not a number
        assert len(np.unique(real)) == len(real)
        assert real.max(initial=0) < COUNT
    assert 0 < passed < 900  # flips in codes and centres cannot be seen here: the digest in the manifest finds them
