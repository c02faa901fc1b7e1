"""Parts of the ranker against what they should equal."""

from __future__ import annotations

import numpy as np
import torch

from recdistill.features import FeatureSpec, Field, HistorySpec, age_buckets
from recdistill.teachers.builtin.files import Shape
from recdistill.teachers.builtin.sequences import single
from recdistill.teachers.builtin.tower import Tower, age_rows


def test_ages_are_those_of_the_features() -> None:
    random = np.random.default_rng(0)
    gaps = np.concatenate([np.exp(random.uniform(0, 34, 5000)).astype(np.int64), [1, 10**6 + 1, 10**15]])
    now = torch.full((len(gaps),), 2 * 10**15)
    got = age_rows(now, now - torch.from_numpy(gaps))
    np.testing.assert_array_equal(got.numpy(), age_buckets(gaps))
    assert age_rows(torch.tensor([0, 5, 5]), torch.tensor([5, 0, 9])).tolist() == [0, 0, 1]


def test_many_questions_of_one_window_are_answered_as_if_alone() -> None:
    """What a window teaches of a place is what scoring asks there: later events and other questions change nothing."""
    spec = FeatureSpec(history=HistorySpec(length=5, actions=("a",)), context={"hour": Field("number")})
    random = np.random.default_rng(1)
    for layers in (0, 1, 2, 3):
        tower = Tower(spec, Shape(dim=8, layers=layers), {"id": 9}, seed=layers)
        with torch.no_grad():
            for parameter in tower.dense_parameters().values():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
        events = [(int(random.integers(8)), 1 + 10**7 * n, int(random.integers(2))) for n in range(5)]
        times = [10**7 * n + 5 * 10**6 for n in range(6)]
        hours = random.normal(size=(6, 2)).astype(np.float32)
        items_NW = tower.items(np.arange(1, 9), {})
        alone = []
        for at in range(6):
            asked = single([events[:at]], [times[at]], {"hour": hours[at : at + 1]})
            alone.append(tower.users(items_NW, asked, torch.from_numpy(asked.slots_BL)))
        whole = single([events], [0], {"hour": hours})
        whole = type(whole)(
            whole.slots_BL,
            whole.times_us_BL,
            whole.actions_BL,
            np.arange(6)[None],
            np.array([times]),
            np.zeros((1, 6), np.int64),
            whole.context,
        )
        together = tower.users(items_NW, whole, torch.from_numpy(whole.slots_BL))
        torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-5)
