"""Golden answers: a bundle whose answers are not those of its export is not served."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest

from recdistill.bundle import Bundle, Golden
from recdistill.errors import BundleError
from recdistill.serve import Recommender
from references.students import make_requests, make_student


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    student = make_student()
    return student.export(tmp_path_factory.mktemp("bundles") / "one", golden_requests=make_requests(student, 20))


@pytest.fixture
def recommender(bundle: Bundle) -> Recommender:
    return Recommender(bundle)


def test_golden_answers_are_checked(bundle: Bundle, recommender: Recommender) -> None:
    recommender.check_golden()
    assert len(bundle.golden) == 20
    first = bundle.golden[0]
    wrong = [
        msgspec.structs.replace(first, scores=(first.scores[0] + 0.01, *first.scores[1:])),
        msgspec.structs.replace(first, items=(first.items[5], *first.items[1:])),
        msgspec.structs.replace(bundle.golden[7], history=()),
    ]
    for golden in wrong:
        broken = Recommender(bundle)
        object.__setattr__(broken, "bundle", _with_golden(bundle, golden))
        with pytest.raises(BundleError, match=r"golden request 0 gives .* expected"):
            broken.check_golden()


def _with_golden(bundle: Bundle, golden: Golden) -> Bundle:
    return dataclasses.replace(bundle, golden=[golden])
