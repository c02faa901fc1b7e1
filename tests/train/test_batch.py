"""A batch: made in one way, with every array counted."""

from __future__ import annotations

import dataclasses

import msgspec
import numpy as np
import pytest

from recdistill.config import LossSettings, StudentSettings, WatchSettings
from recdistill.features import FeatureSpec, Field
from recdistill.loops.trainers import make_trainer
from recdistill.records import Candidate, Event, Example, Impression, Item, Ranking, encode, read_columns
from recdistill.train import Batch
from recdistill.train.batch import _arrays
from recdistill.watch import comparable_scores

SPEC = FeatureSpec(context={"country": Field("category", capacity=4), "hour": Field("number", mean=12.0, std=6.0)})


def examples(count: int, *, part: bool = False) -> list[Example]:
    random, made = np.random.default_rng(0), []
    for number in range(count):
        asked = Impression(
            f"r{number}",
            9,
            history=(Event("a", 1), Event("who", 2)),
            context={"country": f"c{number}", "hour": 3.0},
            candidates=(Candidate("a"), Candidate("b"), Candidate("nobody knows")),
        )
        chances = (0.5, 1.0, 1.0) if part else ()
        scores = tuple(random.normal(size=3).tolist())
        ranking = Ranking(asked, "t", str(number % 2), "unbounded", scores, (True,) * 3, candidates_sampled=chances)
        made.append(Example(ranking, (1.0, 0.0, 0.0), "closed"))
    return made


def by_hand(value: object) -> int:
    """Bytes of every array that can be reached through attributes, dicts and lists."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, dict):
        return sum(by_hand(one) for one in value.values())
    if isinstance(value, (list, tuple)):
        return sum(by_hand(one) for one in value)
    return sum(by_hand(one) for one in vars(value).values()) if hasattr(value, "__dict__") else 0


@pytest.mark.parametrize("part", [False, True])
def test_every_array_is_counted(part: bool) -> None:
    trainer = make_trainer(SPEC, StudentSettings(dim=4), LossSettings(), seed=0)
    trainer.apply_items([Item("a"), Item("b")])
    batch = trainer.encode(examples(5, part=part))
    assert batch.nbytes == by_hand(batch)
    names = {field.name for field in dataclasses.fields(batch.lists)}
    assert {"label_known_B", "offsets_BL"} <= names
    assert (batch.lists.offsets_BL is not None) == part
    bare = dataclasses.replace(batch, lists=dataclasses.replace(batch.lists, label_known_B=np.zeros(0, bool)))
    assert batch.nbytes - bare.nbytes == 5


@pytest.mark.parametrize("comparable", ["standard", "rank", "scale"])
def test_the_trainer_makes_the_batch_that_its_settings_say(comparable: str) -> None:
    watch = WatchSettings(comparable=comparable)  # type: ignore[arg-type]
    trainer = make_trainer(SPEC, StudentSettings(dim=4), LossSettings(), seed=0, watch=watch)
    trainer.apply_items([Item("a"), Item("b")])
    batch = trainer.encode(examples(4))
    names = ["t@0", "t@1", "t@0", "t@1"]
    assert list(batch.teachers) == names
    expected = comparable_scores(batch.lists, ["unbounded"] * 4, names, comparable)
    assert np.array_equal(batch.units_BL, expected)
    assert len(batch) == 4
    assert (batch.unknown, batch.unfit, batch.again) == (8, 0, False)  # a candidate and an event of each
    again = batch.once_more()
    assert again.again
    assert again.lists is batch.lists
    assert np.array_equal(Batch.of(batch.lists, ["unbounded"] * 4, names, comparable).units_BL, expected)


@pytest.mark.parametrize("part", [False, True])
def test_columns_make_the_batch_that_examples_make(part: bool) -> None:
    """With teachers that were asked again, labels that came alone, and context values of the wrong kind."""
    replace, made = msgspec.structs.replace, examples(6, part=part)
    made[1] = replace(made[1], label_state="labels")
    made[2] = replace(made[2], label_state="none", ranking=replace(made[2].ranking, self_agreement=0.25, scale="rank"))
    asked = made[3].ranking.impression
    made[3] = replace(made[3], ranking=replace(made[3].ranking, impression=replace(asked, context={"hour": [1.0]})))
    columns, _ = read_columns(Example, [encode(one) for one in made])
    found, expected = [], []
    for batches, given in ((found, columns), (expected, made)):
        trainer = make_trainer(SPEC, StudentSettings(dim=4), LossSettings(), seed=0)
        trainer.apply_items([Item("a"), Item("b")])
        batches.append(trainer.encode(given))
        batches.append(trainer.vocabulary.hash)
    one, other = found[0], expected[0]
    assert (list(one.teachers), one.unknown, one.unfit) == (list(other.teachers), other.unknown, other.unfit)
    assert one.unfit == 1
    arrays, others = list(_arrays(one)), list(_arrays(other))
    assert [(each.dtype, each.shape, each.tobytes()) for each in arrays] == [
        (each.dtype, each.shape, each.tobytes()) for each in others
    ]
    assert len(arrays) >= 12
    assert found[1] == expected[1]
