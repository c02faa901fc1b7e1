"""Slots, versions, rows and snapshots against a plain model."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tries import tries

from recdistill.errors import DataError
from recdistill.features import Catalogue, FeatureError, FeatureSpec, Field, IdSpec, Vocabulary
from recdistill.records import MAX_BYTES, Item, decode_item

SPEC = FeatureSpec(
    id=IdSpec(capacity=6, hashed=3),
    item={
        "genres": Field("category", capacity=4, hashed=2, max_values=2),
        "title": Field("text", capacity=50, max_values=4),
        "vec": Field("vector", size=2),
        "year": Field("number", mean=1990.0, std=10.0),
    },
)
attributes = st.fixed_dictionaries(
    {},
    optional={
        "genres": st.lists(st.sampled_from("abcdefgh"), max_size=3) | st.sampled_from("abcdefgh"),
        "title": st.sampled_from(["", "red house", "House of  cards", "ä b c d e"]),
        "vec": st.just([0.25, -1.5]),
        "year": st.sampled_from([1994.0, 1e9, 1950.0]),
        "unused": st.just("x"),
    },
)
items = st.builds(
    Item, st.sampled_from([f"i{index}" for index in range(9)]), st.integers(0, 3), st.booleans(), attributes
)


def fresh(spec: FeatureSpec = SPEC) -> Catalogue:
    return Catalogue(spec, Vocabulary(spec))


def bytes_of(catalogue: Catalogue) -> dict[str, bytes]:
    return {name: array.tobytes() + str(array.dtype).encode() for name, array in catalogue.snapshot().items()}


@tries(100)
@given(st.lists(items, max_size=40))
def test_the_newest_version_holds_and_slots_stay(log: list[Item]) -> None:
    catalogue = fresh()
    model: dict[str, Item] = {}
    for item in log:
        before = model.get(item.id)
        if before is None or item.version >= before.version:
            kept = before.attributes if before and item.withdrawn and not item.attributes else item.attributes
            model[item.id] = Item(item.id, item.version, item.withdrawn, kept, item.time_us)
        assert catalogue.apply(item, admit=True) == list(model).index(item.id)
    assert catalogue.ids == list(model)
    assert [catalogue.item(slot) for slot in range(len(catalogue))] == list(model.values())
    assert catalogue.live_N.tolist() == [not item.withdrawn for item in model.values()]
    assert catalogue.slots([*model, "never"]).tolist() == [*range(len(model)), -1]
    assert catalogue.slot("never") == -1


@tries(100)
@given(st.lists(items, max_size=40))
def test_admitted_rows_come_out_the_same_when_computed_again(log: list[Item]) -> None:
    """What export and serving rely on: an item applied later, without admission, gets the trainer's rows."""
    catalogue = fresh()
    for item in log:
        catalogue.apply(item, admit=True)
    again = Catalogue(SPEC, Vocabulary.restore(SPEC, catalogue.vocabulary.snapshot()))
    for slot in range(len(catalogue)):
        again.apply(catalogue.item(slot), admit=False)
    assert bytes_of(again) == bytes_of(catalogue)


@tries(100)
@given(st.lists(st.tuples(items, st.booleans()), max_size=40), st.integers(0, 40))
def test_a_resumed_catalogue_goes_on_with_the_same_bytes(log: list[tuple[Item, bool]], cut: int) -> None:
    whole = fresh()
    for item, admit in log:
        whole.apply(item, admit=admit)
    first = fresh()
    for item, admit in log[:cut]:
        first.apply(item, admit=admit)
    resumed = Catalogue.restore(SPEC, Vocabulary.restore(SPEC, first.vocabulary.snapshot()), first.snapshot())
    for item, admit in log[cut:]:
        resumed.apply(item, admit=admit)
    assert bytes_of(resumed) == bytes_of(whole)
    assert resumed.vocabulary.hash == whole.vocabulary.hash


def test_rows_are_computed_when_an_item_is_applied() -> None:
    catalogue = fresh()
    catalogue.apply(Item("old", attributes={"genres": "war"}), admit=False)
    hashed = catalogue.encoded().fields["genres"][0, 0]
    catalogue.apply(Item("new", attributes={"genres": "war"}), admit=True)
    rows = catalogue.encoded().fields["genres"][:, 0].tolist()
    assert rows == [hashed, 3]  # 1 unknown, 2 hashed
    assert 1 <= hashed <= 2
    restored = Catalogue.restore(SPEC, catalogue.vocabulary, catalogue.snapshot())
    assert restored.encoded().fields["genres"][:, 0].tolist() == rows
    catalogue.apply(Item("old", attributes={"genres": "war"}), admit=False)
    assert catalogue.encoded().fields["genres"][:, 0].tolist() == [3, 3]


def test_a_wrong_attribute_changes_nothing() -> None:
    catalogue = fresh()
    catalogue.apply(Item("a", 1, attributes={"genres": "war"}), admit=True)
    before = bytes_of(catalogue), catalogue.vocabulary.hash
    for item in (
        Item("a", 2, attributes={"genres": "new", "year": "x"}),
        Item("b", attributes={"genres": "new", "vec": [1.0]}),
    ):
        with pytest.raises(FeatureError, match=rf"item\.(year|vec): must be .* \(item '{item.id}'\)"):
            catalogue.apply(item, admit=True)
    assert (bytes_of(catalogue), catalogue.vocabulary.hash) == before


def test_a_withdrawal_holds_even_where_its_attributes_do_not_fit() -> None:
    catalogue = fresh()
    slot = catalogue.apply(Item("a", 1, attributes={"year": 1994.0}), admit=True)
    assert catalogue.apply(Item("a", 2, withdrawn=True, attributes={"year": "soon"}), admit=True) == slot
    assert catalogue.item(slot) == Item("a", 2, withdrawn=True, attributes={"year": 1994.0})
    assert catalogue.live_N.tolist() == [False]
    with pytest.raises(FeatureError, match="year"):  # there is nothing that could be withdrawn
        catalogue.apply(Item("never", 2, withdrawn=True, attributes={"year": "soon"}), admit=True)
    assert len(catalogue) == 1


def test_growing_keeps_what_was_there() -> None:
    spec = FeatureSpec(id=IdSpec(capacity=1000, hashed=0), item={"year": Field("number")})
    catalogue = fresh(spec)
    for index in range(500):
        catalogue.apply(Item(f"i{index}", attributes={"year": index / 200}), admit=True)
    assert catalogue.encoded().id_rows_N.tolist() == list(range(1, 501))
    np.testing.assert_allclose(catalogue.encoded().fields["year"][:, 0], np.arange(500) / 200, rtol=1e-6)
    chosen = catalogue.encoded([499, 0])
    assert chosen.id_rows_N.tolist() == [500, 1]
    assert chosen.fields["year"].shape == (2, 2)


def test_slots_that_are_not_there_are_refused() -> None:
    catalogue = fresh()
    catalogue.apply(Item("a"), admit=True)
    for slots in ([-1], [1]):
        with pytest.raises(DataError, match="slots must be 0 to 0"):
            catalogue.encoded(slots)
    with pytest.raises(IndexError):
        catalogue.item(-1)
    assert catalogue.encoded([]).id_rows_N.shape == (0,)


def test_damaged_snapshots_are_refused() -> None:
    catalogue = fresh()
    for item in (Item("a", attributes={"genres": "war"}), Item("b", attributes={"year": 1994.0})):
        catalogue.apply(item, admit=True)
    good = catalogue.snapshot()
    items = good["items"]
    wrong = {
        "cut short": {"items": items[:-1]},
        "cut": {"items": items[:2]},
        "twice": {"items": np.concatenate([items, items])},
        "not an item": {"items": np.concatenate([items, np.array([2, 0, 0, 0, 9, 9], np.uint8)])},
        "catalogue id": {"id_rows": good["id_rows"][:1]},
        "catalogue id: has a value": {"id_rows": good["id_rows"] + 100},
        r"item\.genres: has a value": {"field.genres": good["field.genres"] - 1},
        r"item\.genres: int64": {"field.genres": good["field.genres"].astype(np.int64)},
        r"item\.year: has a value": {"field.year": np.full_like(good["field.year"], np.inf)},
        "differ in more": {"more": items},
    }
    for reason, change in wrong.items():
        with pytest.raises(DataError, match=reason):
            Catalogue.restore(SPEC, catalogue.vocabulary, {**good, **change})
    with pytest.raises(DataError, match=r"differ in field\.year"):
        Catalogue.restore(
            SPEC, catalogue.vocabulary, {name: array for name, array in good.items() if name != "field.year"}
        )


def test_an_empty_catalogue_is_whole() -> None:
    restored = Catalogue.restore(SPEC, Vocabulary(SPEC), fresh().snapshot())
    assert len(restored) == 0
    assert restored.encoded().fields["vec"].shape == (0, 2)


steps = st.lists(
    st.tuples(st.just("apply"), items)
    | st.tuples(st.just("forget"), st.sampled_from([f"i{index}" for index in range(9)]))
    | st.tuples(st.just("id"), st.sampled_from([f"i{index}" for index in range(9)]))
    | st.tuples(st.just("item.genres"), st.sampled_from("abcdefgh"))
    | st.just(("restore", "")),
    max_size=40,
)


@tries(200)
@given(steps)
def test_no_item_points_at_what_belongs_to_another(log: list[tuple[str, Item | str]]) -> None:
    """Items, ids and categories are released in any order, and the catalogue is saved and restored in between."""
    catalogue = fresh()
    model: dict[int, Item] = {}
    for what, one in log:
        slot_of = {item.id: slot for slot, item in model.items()}
        if isinstance(one, Item):
            slot = slot_of.get(one.id, min(set(range(len(model) + 1)) - set(model)))
            before = model.get(slot)
            if before is None or one.version >= before.version:
                kept = before.attributes if before and one.withdrawn and not one.attributes else one.attributes
                model[slot] = Item(one.id, one.version, one.withdrawn, kept, one.time_us)
            assert catalogue.apply(one, admit=True) == slot
        elif what == "forget":
            if one in slot_of:
                assert catalogue.release(one) == slot_of[one]
                del model[slot_of[one]]
                assert not catalogue.vocabulary.has("id", one)
            else:
                with pytest.raises(DataError, match=rf"does not hold '{one}'"):
                    catalogue.release(one)
        elif what == "restore":
            saved, vocabulary = catalogue.snapshot(), catalogue.vocabulary.snapshot()
            catalogue = Catalogue.restore(SPEC, Vocabulary.restore(SPEC, vocabulary), saved)
            assert bytes_of(catalogue) == {n: a.tobytes() + str(a.dtype).encode() for n, a in saved.items()}
        elif catalogue.vocabulary.has(what, one):
            catalogue.vocabulary.release(what, one)

        vocabulary, encoded = catalogue.vocabulary, catalogue.encoded()
        assert catalogue.holes == (set(model) != set(range(len(catalogue))))
        assert catalogue.ids == [model[slot].id if slot in model else "" for slot in range(len(catalogue))]
        for slot in range(len(catalogue)):
            row, genres = encoded.id_rows_N[slot], [int(g) for g in encoded.fields["genres"][slot] if g >= 0]
            if slot not in model:
                assert (row, genres, catalogue.live_N[slot]) == (0, [], False)
                assert not encoded.fields["year"][slot].any()
                with pytest.raises(IndexError):
                    catalogue.item(slot)
                continue
            item = catalogue.item(slot)
            assert item == model[slot]
            assert catalogue.live_N[slot] == (not item.withdrawn)
            own = vocabulary.has("id", item.id)
            # An item that found no room, or lost its row, has its shared one.
            assert row == (vocabulary.row("id", item.id) if own else vocabulary.shared_row("id", item.id))
            named = item.attributes.get("genres", [])
            named = list(dict.fromkeys(named if isinstance(named, list) else [named]))[:2]
            assert len(genres) == len(named)
            for value, genre in zip(named, genres, strict=True):
                allowed = {vocabulary.shared_row("item.genres", value), vocabulary.row("item.genres", value)}
                assert genre in allowed


def test_a_slot_that_was_given_back_is_fresh_to_whoever_asks() -> None:
    catalogue = fresh()
    for item_id in "abc":
        catalogue.apply(Item(item_id), admit=True)
    slots, evicted, mark = catalogue.changes(None)
    assert (slots, evicted) == ([0, 1, 2], [])
    catalogue.release("b")
    catalogue.release("a")
    assert catalogue.apply(Item("d"), admit=True) == 0
    assert catalogue.changes(mark)[:2] == ([0], [0, 1])
    assert catalogue.changes(catalogue.mark)[:2] == ([], [])
    assert catalogue.slots(["a", "b", "c", "d"]).tolist() == [-1, -1, 2, 0]


def test_a_record_that_is_too_long_once_it_is_written_changes_nothing() -> None:
    """A number takes two bytes in JSON and four on the wire. Such a record once ended the distiller, at each start."""
    attributes = {f"a{n}": [1] * 1900 for n in range(250)}
    value = json.dumps({"id": "big", "attributes": attributes}, separators=(",", ":")).encode()
    assert len(value) < MAX_BYTES
    spec = FeatureSpec()
    catalogue = Catalogue(spec, Vocabulary(spec))
    with pytest.raises(FeatureError, match=r"item: cannot write this item: 1,9..,... bytes .* .item 'big'."):
        catalogue.apply(decode_item(b"big", value), admit=True)
    assert (len(catalogue), catalogue.vocabulary.snapshot()) == (0, {"id": []})
    catalogue.apply(Item("small"), admit=True)
    assert Catalogue.restore(spec, catalogue.vocabulary, catalogue.snapshot()).ids == ["small"]
