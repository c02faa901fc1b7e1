"""Terms of a table's recipe: what cannot be done is refused, and nothing is passed over."""

from typing import get_args, get_type_hints

import pytest

from benchmarks.tables.recipes import FOLDER, Fit, HintTerm, Pick, TableRecipe, TableTerm, names, table_recipe
from benchmarks.tables.terms import MARKS, check
from recdistill.errors import ConfigError
from recdistill.recipes import Term

PAIRS = Fit(unit="pairs")
BPR = Term("bpr")


@pytest.mark.parametrize("name", [*names(), *map(str, sorted(FOLDER.glob("variants/*.toml")))])
def test_what_ships_fits(name: str) -> None:
    check(table_recipe(name))
    check(table_recipe(name).without_teacher())


def soft(loss: str, kind: str = "top", *, fit: Fit = PAIRS, label: Term = BPR, **more: object) -> TableRecipe:
    options = more.pop("options", {})
    term = TableTerm(loss, pick=Pick(kind=kind, **more), options=options)  # type: ignore[arg-type]
    return TableRecipe(soft=[term], fit=fit, label=label)


WRONG = [
    (soft("nonsense"), r"loss: 'nonsense' is not known"),
    (TableRecipe(soft=[TableTerm("margin_mse")]), r'soft\[0\]: pick "catalogue" is for softmax_distillation alone'),
    (TableRecipe(soft=[TableTerm("softmax_distillation", options={"temprature": 3.0})]), "no option 'temprature'; it"),
    (soft("softmax_distillation", "catalogue"), "needs batches of lists"),
    (soft("softmax_distillation", "catalogue", fit=Fit(), label=Term("softmax_labels"), side="items"), "for side"),
    (soft("softmax_distillation", "top", options={"alpha": 1.0}), "no option 'alpha'; it has temperature, spread"),
    (soft("list_mle", "top", options={"spread": 0.5}), "no option 'spread'"),
    (soft("rrd", "top"), "a pick that gives it: ranked, hard, positives, disagreement"),
    (soft("unkd", "top"), "needs groups"),
    (soft("cd", "ranked"), "cd makes nothing of ranked"),
    (soft("rrd", "disagreement", side="items"), "there are the picks top and ranked"),
    (soft("bpr"), "bpr does not learn from a teacher's scores"),
    (TableRecipe(label=BPR), "table.label: in batches of lists it is softmax_labels"),
    (TableRecipe(label=Term("softmax_labels", options={"log_normaliser": 1.0})), "softmax_labels without options"),
    (TableRecipe(label=Term("sampled_softmax"), fit=PAIRS), "sampled_softmax does not learn from a pair"),
    (TableRecipe(label=Term("list_mle"), fit=PAIRS), "list_mle does not learn from a pair"),
    (TableRecipe(label=Term("bpr", options={"weights": 1.0}), fit=PAIRS), "bpr has no option 'weights'"),
    (TableRecipe(label=Term("softmax_labels"), alone=PAIRS, hints=[HintTerm("de")]), r"hints\[0\]|hints need"),
    (TableRecipe(label=BPR, fit=PAIRS, hints=[HintTerm("ftd", options={"experts": 3})]), "ftd has no option 'experts'"),
]


@pytest.mark.parametrize(("recipe", "says"), WRONG)
def test_what_cannot_be_done_is_refused(recipe: TableRecipe, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        check(recipe)


def test_each_kind_of_pick_is_known() -> None:
    assert set(MARKS) == set(get_args(get_type_hints(Pick)["kind"]))


def test_a_loss_that_draws_is_given_what_to_draw_with() -> None:
    check(soft("rank_distil"))
