"""The state of a trainer: it holds everything, it is the same bytes again, and that of another student is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from support.steps import BATCHES, ITEMS, SAMPLED, SETTINGS, SPEC, bytes_of, item, trainer

from recdistill import checkpoint
from recdistill.config import LossSettings
from recdistill.errors import CheckpointError
from recdistill.features import FeatureSpec
from recdistill.loops.trainers import make_trainer
from recdistill.train import Trainer


def test_the_same_bytes_again() -> None:
    first, second = trainer(), trainer()
    for batch in BATCHES:
        assert first.learn(first.encode(batch)) == second.learn(second.encode(batch))
    assert bytes_of(first) == bytes_of(second)
    other = trainer(seed=4)
    for batch in BATCHES:
        other.learn(other.encode(batch))
    assert bytes_of(other)["weights/id"] != bytes_of(first)["weights/id"]


@pytest.mark.parametrize("loss", [LossSettings(), SAMPLED], ids=["whole", "sampled"])
@pytest.mark.parametrize("at", [0, 1, 5, 11])
def test_stopped_and_restored_ends_with_the_same_bytes(tmp_path: Path, at: int, loss: LossSettings) -> None:
    whole = trainer(items=20, loss=loss)
    part = trainer(items=20, loss=loss)
    for step, batch in enumerate(BATCHES):
        if step == at:
            checkpoint.save(tmp_path, part.step, *part.state())
            found = checkpoint.latest(tmp_path)
            assert found is not None
            part = make_trainer(SPEC, SETTINGS, loss, seed=3)
            part.restore(found.tensors, found.state)
            assert part.step == at
        for one in (whole, part):
            if step == 6:
                one.apply_items([*ITEMS[20:], item(3, withdrawn=True, version=2)])
            one.learn(one.encode(batch))
    assert bytes_of(whole) == bytes_of(part)


@pytest.mark.slow
def test_with_more_threads_as_well(caplog: pytest.LogCaptureFixture) -> None:
    torch.set_num_threads(2)
    large = [one for batch in BATCHES for one in batch] * 4
    first, second = trainer(), trainer()
    for _ in range(5):
        assert first.learn(first.encode(large)) == second.learn(second.encode(large))
    assert bytes_of(first) == bytes_of(second)
    torch.set_num_threads(1)
    tensors, state = first.state()
    trainer().restore(tensors, state | {"threads": 2})
    assert "with 1 torch threads a run that had 2" in caplog.text


def other_spec() -> Trainer:
    return make_trainer(FeatureSpec(), SETTINGS, LossSettings(), seed=3)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (other_spec, "spec"),
        (lambda: trainer(dim=6), "sizes"),
        (lambda: trainer(hidden=8), "sizes"),
        (lambda: trainer(seed=4), "seed"),
    ],
)
def test_the_state_of_another_student_is_refused(make: Callable[[], Trainer], named: str) -> None:
    made = trainer()
    made.learn(made.encode(BATCHES[0]))
    with pytest.raises(CheckpointError, match=named):
        make().restore(*made.state())


@pytest.mark.slow
def test_a_damaged_state_is_refused() -> None:
    made = trainer()
    made.learn(made.encode(BATCHES[0]))
    tensors, state = made.state()
    for name, value in tensors.items():
        if name != "popular":  # a version that did not count wrote none
            with pytest.raises(CheckpointError):
                trainer().restore({k: v for k, v in tensors.items() if k != name}, state)
        with pytest.raises(CheckpointError):
            trainer().restore(tensors | {name: np.zeros((3, *value.shape), value.dtype)}, state)
    for name in state:
        with pytest.raises(CheckpointError):
            trainer().restore(tensors, {k: v for k, v in state.items() if k != name})
    with pytest.raises(CheckpointError, match="does not have"):
        trainer().restore(tensors | {"weights/more": np.zeros(1, np.float32)}, state)
