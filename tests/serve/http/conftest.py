"""One bundle behind one endpoint, for the tests of each of its files."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from support.bodies import SMALL
from support.http_server import serving

from recdistill.bundle import Bundle
from recdistill.serve import Ranker, Recommender
from references.students import Student, make_requests, make_student


@pytest.fixture(scope="module")
def student() -> Student:
    return make_student()


@pytest.fixture(scope="module")
def bundle(student: Student, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return student.export(
        tmp_path_factory.mktemp("bundles") / "one",
        golden_requests=make_requests(student, 20),
        popular=[(f"item-{i}", 60.0 - i) for i in range(6)],
    )


@pytest.fixture(scope="module")
def ranker(bundle: Bundle) -> Ranker:
    ranker = Ranker()
    ranker.swap(Recommender(bundle), "7")
    return ranker


@pytest.fixture(scope="module")
def client(ranker: Ranker) -> Iterator[httpx.Client]:
    with serving(ranker, SMALL) as address, httpx.Client(base_url=address) as client:
        yield client
