"""A stream's recipe as one loss: what the settings change, and what is refused."""

from pathlib import Path

import pytest
import torch

from recdistill import losses
from recdistill.errors import ConfigError
from recdistill.train.terms import SoftTerms

STUDENT = torch.tensor([[0.3, -1.0, 0.8], [0.0, 0.5, 0.1]])
TEACHER = torch.tensor([[2.0, 0.0, 1.0], [-1.0, 1.0, 3.0]])
WHERE = torch.tensor([[True, True, True], [True, True, False]])

MINE = """
title = "t"
source = "s"
take = "a"
leave = "b"
[stream]
label = 0.25
[[stream.soft]]
loss = "ranknet"
weight = 1.0
[[stream.soft]]
loss = "softmax_distillation"
weight = 3.0
options = { temperature = 1.5 }
"""


def recipe(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_the_default_is_the_softmax_with_temperature_two() -> None:
    mine = SoftTerms()(STUDENT, TEACHER, where=WHERE)
    assert torch.equal(mine, losses.softmax_distillation(STUDENT, TEACHER, where=WHERE, temperature=2.0))


def test_several_terms_are_shared_by_weight(tmp_path: Path) -> None:
    terms = SoftTerms(recipe(tmp_path, MINE))
    soft = losses.softmax_distillation(STUDENT, TEACHER, where=WHERE, temperature=1.5)
    expected = 0.25 * losses.ranknet(STUDENT, TEACHER, where=WHERE) + 0.75 * soft
    assert float(terms(STUDENT, TEACHER, where=WHERE)) == pytest.approx(float(expected))
    assert (terms.total, terms.label) == (4.0, 0.25)


def test_a_loss_may_be_yours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "def squares(student, teacher_scores, *, where, weights=None):\n    return (student * where).square().sum()\n"
    )
    (tmp_path / "our_losses.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    terms = SoftTerms(recipe(tmp_path, MINE.replace('"ranknet"', '"our_losses:squares"')))
    soft = losses.softmax_distillation(STUDENT, TEACHER, where=WHERE, temperature=1.5)
    expected = 0.25 * (STUDENT * WHERE).square().sum() + 0.75 * soft
    assert float(terms(STUDENT, TEACHER, where=WHERE)) == pytest.approx(float(expected))
    with pytest.raises(ConfigError, match="^loss: 'builtins:dict' does not say what it takes"):
        losses.by_name("builtins:dict")
    with pytest.raises(ConfigError, match="^loss: 'our_losses:cubes' cannot be imported"):
        SoftTerms(recipe(tmp_path, MINE.replace('"ranknet"', '"our_losses:cubes"')))


def test_settings_win_over_the_recipe(tmp_path: Path) -> None:
    terms = SoftTerms(recipe(tmp_path, MINE), soft=0.0, label=1.0, temperature=9.0)
    assert (terms.total, terms.label) == (0.0, 1.0)
    assert terms.resolved()["terms"][1]["options"] == {"temperature": 9.0}


def test_offsets_shift_both_scores_of_a_softmax() -> None:
    offsets = torch.tensor([[0.0, 1.2, 0.4], [0.0, 0.0, 0.0]])
    mine = SoftTerms(temperature=1.0)(STUDENT, TEACHER, where=WHERE, offsets=offsets)
    # By hand: each candidate stands for e^offset of itself in both distributions.
    expected = 0.0
    for row, mass in enumerate(offsets.exp()):
        real = WHERE[row]
        p, q = (mass[real] * scores[row][real].exp() for scores in (TEACHER, STUDENT))
        expected -= float((p / p.sum() * (q / q.sum()).log()).sum()) / 2
    assert float(mine) == pytest.approx(expected, rel=1e-6)


WRONG = [
    ('loss = "ranknet"', 'loss = "rankned"', "did you mean 'ranknet'"),
    ('loss = "ranknet"', 'loss = "rrd"', "rrd needs ranked"),
    ('loss = "ranknet"', 'loss = "bpr"', "bpr needs no teacher"),
    ("temperature = 1.5", "temper = 1.5", "has no option 'temper'"),
]


@pytest.mark.parametrize(("old", "new", "says"), WRONG)
def test_what_a_stream_cannot_learn_from_is_refused(tmp_path: Path, old: str, new: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        SoftTerms(recipe(tmp_path, MINE.replace(old, new)))
    assert says in str(caught.value)


ODD_OPTIONS = [
    ("softmax_distillation", "temperature = 0.0", "option temperature: must be above 0, not 0.0"),
    ("softmax_distillation", "temperature = -1.0", "option temperature: must be above 0, not -1.0"),
    ("softmax_distillation", 'temperature = "hot"', "option temperature: "),
    ("softmax_distillation", "temperature = true", "option temperature: "),
    ("softmax_distillation", "temperature = 1e-300", "gives no finite number for a list of three"),
    ("softmax_distillation", "where = true", "has no option 'where'"),
    ("softmax_distillation", "weights = 1", "has no option 'weights'"),
    ("softmax_distillation", "teacher_scores = 1", "has no option 'teacher_scores'"),
    ("ranknet", "temperature = 0.0", "option temperature: must be above 0, not 0.0"),
    ("cd", "temperature = 0.0", "option temperature: must be above 0, not 0.0"),
    ("rd", "decay = 0.0", "option decay: must be above 0, not 0.0"),
    ("approx_ndcg", "smoothing = 0.0", "option smoothing: must be above 0, not 0.0"),
    ("list_mle", "k = 0", "option k: must be at least 1, not 0"),
    ("list_mle", "k = 1.5", "option k: "),
    ("lambda_rank", 'gain = "square"', "option gain: "),
]


@pytest.mark.parametrize(("loss", "options", "says"), ODD_OPTIONS)
def test_an_option_that_a_loss_cannot_take_is_refused_before_anything_is_learnt(
    tmp_path: Path, loss: str, options: str, says: str
) -> None:
    """It ended with a traceback at the first step, made all weights NaN, or taught nothing without a word."""
    text = MINE.replace('"softmax_distillation"', f'"{loss}"').replace("temperature = 1.5", options)
    with pytest.raises(ConfigError) as caught:
        SoftTerms(recipe(tmp_path, text))
    assert f"{loss}" in str(caught.value)
    assert says in str(caught.value)


def test_a_loss_of_yours_that_fails_is_refused_with_what_it_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "def halves(student, teacher_scores, *, where, weights=None, by=2):\n    return (student / (by + 0)).mean()\n"
    )
    (tmp_path / "failing_losses.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    mine = MINE.replace('"softmax_distillation"', '"failing_losses:halves"')
    assert SoftTerms(recipe(tmp_path, mine.replace("temperature = 1.5", "by = 4"))).total == 4.0
    with pytest.raises(ConfigError, match="failing_losses:halves fails on a list of three: TypeError"):
        SoftTerms(recipe(tmp_path, mine.replace("temperature = 1.5", 'by = "two"')))


NO_SOFT = MINE[: MINE.index("[[")] + "soft = []\n"
NO_WEIGHT = MINE.replace("weight = 1.0", "weight = 0.0").replace("weight = 3.0", "weight = 0.0")


@pytest.mark.parametrize("text", [NO_SOFT, NO_WEIGHT])
def test_a_recipe_without_soft_terms_cannot_be_given_a_soft_weight(tmp_path: Path, text: str) -> None:
    mine = recipe(tmp_path, text)
    assert (SoftTerms(mine).total, SoftTerms(mine, soft=0.0).total) == (0.0, 0.0)
    with pytest.raises(ConfigError, match=r"^loss\.soft = 0\.7: recipe .* has no soft term with a weight"):
        SoftTerms(mine, soft=0.7)


def test_a_recipe_of_tables_is_not_known_here() -> None:
    with pytest.raises(ConfigError, match="'rrd': is not known; there are default"):
        SoftTerms(recipe="rrd")
