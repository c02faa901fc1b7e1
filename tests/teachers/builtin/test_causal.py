"""The transformer against torch's own encoder layer with the same weights, and what no question may see."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from recdistill.features import FeatureSpec, Field, HistorySpec, IdSpec
from recdistill.teachers.builtin.causal import CausalTower
from recdistill.teachers.builtin.files import CausalShape
from recdistill.teachers.builtin.sequences import Windows
from recdistill.teachers.builtin.tower import Drop

LENGTH, ITEMS, DIM, HEADS = 7, 9, 8, 2
SPEC = FeatureSpec(
    history=HistorySpec(length=LENGTH, actions=("click",)),
    id=IdSpec(capacity=ITEMS, hashed=1),
    item={"colour": Field("category", capacity=4, hashed=0), "price": Field("number", mean=0.0, std=1.0)},
    context={"mood": Field("category", capacity=4, hashed=0)},
)
PRICES_N2 = np.random.default_rng(0).normal(size=(ITEMS, 2)).astype(np.float32)
ROWS = {"id": ITEMS + 1, "item.colour": 4, "context.mood": 4}


def tower(seed: int = 0) -> CausalTower:
    """With all parameters away from their first values, so that no part is silent."""
    made = CausalTower(SPEC, CausalShape(DIM, 2, HEADS), ROWS, seed=seed)
    random = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=random) * 0.2)
    return made.eval()


def asked(slots: list[list[int]], at: list[list[int]], seconds: list[list[float]] | None = None) -> Windows:
    slots_BL = np.array(slots)
    times_BL = np.zeros_like(slots_BL) if seconds is None else (np.array(seconds) * 1e6).astype(np.int64)
    at_BQ = np.array(at)
    return Windows(
        slots_BL=slots_BL,
        times_us_BL=times_BL,
        actions_BL=(slots_BL >= 0).astype(np.int64),
        at_BQ=at_BQ,
        asked_us_BQ=np.where(at_BQ >= 0, 0 if seconds is None else 500_000_000, 0),
        origin_BQ=np.zeros_like(at_BQ),
        context={"mood": np.full((at_BQ.size, 1), 1)},
    )


def items_of(one: CausalTower) -> torch.Tensor:
    fields = {"colour": np.arange(ITEMS)[:, None] % 4, "price": PRICES_N2}
    return one.items(np.arange(1, ITEMS + 1), fields)


def encoder(one: CausalTower) -> list[nn.TransformerEncoderLayer]:
    """torch's own layers with the same weights."""
    layers = []
    for block in one.blocks:
        layer = nn.TransformerEncoderLayer(DIM, HEADS, 4 * DIM, 0.0, "gelu", batch_first=True, norm_first=True)
        layer.load_state_dict(
            {
                "self_attn.in_proj_weight": block.inside.weight,
                "self_attn.in_proj_bias": block.inside.bias,
                "self_attn.out_proj.weight": block.out.weight,
                "self_attn.out_proj.bias": block.out.bias,
                "linear1.weight": block.up.weight,
                "linear1.bias": block.up.bias,
                "linear2.weight": block.down.weight,
                "linear2.bias": block.down.bias,
                "norm1.weight": block.norm.weight,
                "norm1.bias": block.norm.bias,
                "norm2.weight": block.norm_mlp.weight,
                "norm2.bias": block.norm_mlp.bias,
            }
        )
        layers.append(layer.train())  # its fast path for evaluation is other code
    return layers


@pytest.mark.parametrize("timed", [False, True])
@torch.no_grad()
def test_the_states_are_those_of_torchs_own_layers(timed: bool) -> None:
    one = tower()
    items_NW = items_of(one)
    slots = [[3, 1, 4, 0, 8], [2, 7, 5, 6, 1]]
    seconds = [[1.0, 2.5, 40.0, 41.0, 300.0], [5.0, 6.0, 6.5, 100.0, 130.0]] if timed else None
    windows = asked(slots, [[5], [5]], seconds)
    times_BL, actions_BL = torch.from_numpy(windows.times_us_BL), torch.from_numpy(windows.actions_BL)
    got = one.states(items_NW, times_BL, actions_BL, torch.tensor(slots), Drop(0.0, None))

    # The bias by hand, pair by pair: a bucket is 1 + floor(log2(seconds + 1)), and 0 for an unknown time.
    mask = torch.full((2 * HEADS, 6, 6), -torch.inf)
    events = torch.zeros(2, 6, DIM)
    for row in range(2):
        events[row, 0] = one.start
        for place in range(1, 6):
            item = slots[row][place - 1]
            events[row, place] = items_NW[item, :DIM] * DIM**0.5 + one.action[1]
            if timed:
                gap = 0 if place == 1 else 1 + int(np.log2(seconds[row][place - 1] - seconds[row][place - 2] + 1))
                events[row, place] += one.before[gap]
        for head in range(HEADS):
            for query in range(6):
                for key in range(query + 1):
                    bias = one.distance[head, query - key]
                    if timed:
                        known = query > 0 and key > 0
                        age = seconds[row][query - 1] - seconds[row][key - 1] if known else 0.0
                        bias = bias + one.between[1 + int(np.log2(age + 1)) if known else 0, head]
                    mask[row * HEADS + head, query, key] = bias
    wanted = events
    for layer in encoder(one):
        wanted = layer(wanted, src_mask=mask)
    torch.testing.assert_close(got, one.norm(wanted), atol=2e-5, rtol=1e-4)


@torch.no_grad()
def test_a_question_sees_what_came_before_it_and_nothing_else() -> None:
    one = tower()
    items_NW = items_of(one)
    seconds = [[1.0, 2.0, 3.0, 4.0, 5.0]]
    whole = asked([[3, 1, 4, 0, 8]], [[0, 2, 5]], seconds)
    users_MD = one.users(items_NW, whole, torch.from_numpy(whole.slots_BL))
    for number, count in enumerate((0, 2, 5)):
        # The same question with only the events before it, and padding behind them.
        part = asked(
            [[*[3, 1, 4, 0, 8][:count], *[-1] * (6 - count)]],
            [[count, -1]],
            [[*seconds[0][:count], *[0.0] * (6 - count)]],
        )
        alone_MD = one.users(items_NW, part, torch.from_numpy(part.slots_BL))
        assert alone_MD.shape == (1, DIM)
        torch.testing.assert_close(alone_MD[0], users_MD[number], atol=1e-5, rtol=1e-4)
    other = asked([[3, 1, 4, 0, 7]], [[0, 2, 5]], seconds)
    changed_MD = one.users(items_NW, other, torch.from_numpy(other.slots_BL))
    torch.testing.assert_close(changed_MD[:2], users_MD[:2])
    assert not torch.allclose(changed_MD[2], users_MD[2])


@torch.no_grad()
def test_an_item_is_the_sum_of_its_rows_and_its_numbers() -> None:
    one = tower()
    tables = one.tables
    wanted = [
        tables["id"][n + 1]
        + tables["item.colour"][n % 4]
        + PRICES_N2[n, 0].item() * one.item_dense["of_price"][0]
        + PRICES_N2[n, 1].item() * one.item_dense["of_price"][1]
        for n in range(ITEMS)
    ]
    torch.testing.assert_close(items_of(one), torch.stack(wanted), atol=1e-5, rtol=1e-5)
    first = CausalTower(SPEC, CausalShape(DIM, 2, HEADS), ROWS, seed=0)
    assert not first.tables["id"][0].any(), "the row of unknown items begins at zero"


@torch.no_grad()
def test_context_and_the_time_since_the_newest_event_count() -> None:
    one = tower()
    items_NW = items_of(one)
    plain = asked([[3, 1]], [[2]], [[1.0, 2.0]])
    first = one.users(items_NW, plain, torch.from_numpy(plain.slots_BL))
    plain.context["mood"][:] = 2
    other = one.users(items_NW, plain, torch.from_numpy(plain.slots_BL))
    plain.asked_us_BQ[:] = 3_000_000
    later = one.users(items_NW, plain, torch.from_numpy(plain.slots_BL))
    assert not torch.allclose(first, other)
    assert not torch.allclose(other, later)
