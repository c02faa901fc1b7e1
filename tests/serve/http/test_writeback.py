"""A share of the answers comes back as impressions."""

from __future__ import annotations

import httpx
from support.bodies import SMALL, body_of
from support.http_server import serving

from recdistill.bundle import Bundle
from recdistill.records import Impression, decode, encode
from recdistill.serve import Ranker
from references.students import NOW_US, Student, make_requests


def test_a_share_of_the_answers_is_kept(student: Student, bundle: Bundle, ranker: Ranker) -> None:
    kept: dict[str, Impression] = {}

    def keep(impression: Impression) -> bool:
        if len(kept) >= 60:
            return False
        kept[impression.id] = impression
        return True

    asked = make_requests(student, 15)[10:]
    with serving(ranker, SMALL, write_back=0.5, keep=keep) as address, httpx.Client(base_url=address) as client:
        answers = []
        for n in range(200):
            impression = asked[n % len(asked)]
            answers.append(
                (impression, client.post("/v1/recommend", json=body_of(impression, exclude=["item-2"])).json())
            )
    noted = [(impression, answer) for impression, answer in answers if "impression" in answer]
    assert len(noted) == len(kept) == 60  # a queue that is full costs the note, not the answer
    for impression, answer in noted:
        written = kept[answer["impression"]]
        assert [candidate.item for candidate in written.candidates] == answer["items"]
        assert [candidate.logged_score for candidate in written.candidates] == answer["scores"]
        assert (written.origin, written.served_by) == ("student", bundle.content_hash)
        assert (written.history, written.exclude) == (impression.history, ("item-2",))
        assert written.time_us == impression.time_us or (impression.time_us == 0 and written.time_us > NOW_US)
        assert decode(Impression, encode(written)).served_by == bundle.content_hash
