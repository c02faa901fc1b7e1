"""`recdistill status` and `recdistill checkpoints`: what they say of a loop, of parts that are down, and of nothing."""

from __future__ import annotations

import json
import re
import threading
import time
import urllib.request
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support import world
from support.registries import judged, make_bundle
from support.small_shop import Shop, open_shop

from recdistill.commands import status
from recdistill.registry import Registry
from recdistill.stream import MadeBundle, announce, standard_topics
from tools.mlflow_server import new_file


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shop:
    return open_shop(tmp_path, monkeypatch, capsys)


def test_where_nothing_is_yet_each_part_is_one_sentence_and_nothing_is_made(shop: Shop) -> None:
    before = sorted(shop.folder.rglob("*"))
    found = shop.json("status")
    assert found["absent"] == [
        "there is no log yet at log.sqlite; make it with `recdistill topics create`",
        "there is no student yet at student; `recdistill distil` makes one",
        "there is no registry yet at sqlite:///recdistill-data/mlflow.sqlite; the first bundle makes it",
    ]
    assert (found["backlog"], found["hops"], found["student"], found["releases"]) == ([], [], None, None)
    assert sorted(shop.folder.rglob("*")) == before
    text = shop("status")
    assert text.splitlines()[1] == "backlog         nothing is known"
    assert text.count("not there") == 3


def backlog(found: dict[str, Any]) -> dict[tuple[str, str], tuple[int, bool]]:
    return {(one["stage"].split("-")[0], one["topic"]): (one["behind"], one["began"]) for one in found["backlog"]}


@pytest.mark.slow
def test_the_backlog_of_each_stage_is_counted_and_freshness_stands_right_under_it(shop: Shop) -> None:
    shop.write(lists=60)
    lists = len(shop.read("feedback"))
    assert backlog(shop.json("status")) == {
        ("score", "impressions"): (60, False),
        ("join", "rankings"): (0, False),
        ("join", "feedback"): (lists, False),
    }
    shop("score --drain")
    assert backlog(shop.json("status")) == {
        ("score", "impressions"): (0, True),
        ("join", "rankings"): (60, False),
        ("join", "feedback"): (lists, False),
    }
    shop("join --flush")
    shop("distil --drain")
    shop.arrive("more", world.impressions(70)[60:], [])
    shop("join --flush")
    found = shop.json("status")
    assert backlog(found) == {
        ("score", "impressions"): (0, True),
        ("join", "rankings"): (0, True),
        ("join", "feedback"): (0, True),
        ("distil", "examples"): (10, True),
    }
    assert found["student"]["works"] is False
    assert found["student"]["examples"] == 60
    assert found["student"]["step"] == 4
    assert found["next_exports"] == ["after 1,996 more steps (distil.export_every)"]
    text = shop("status").splitlines()
    at = next(place for place, line in enumerate(text) if line.startswith("backlog"))
    assert re.search(r" · distil 10 for [0-9.]+ s since its checkpoint", text[at])
    assert text[at + 1].startswith("freshness")


@pytest.mark.slow
def test_a_drift_of_the_stream_is_a_sentence_and_what_is_seen_is_a_line(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Lists of six candidates are usual here, and then come lists of two."""
    monkeypatch.setenv("RECDISTILL__WATCH__DRIFT_LISTS", "80")
    shop.write(lists=120)
    shop("score --drain")
    shop("join --flush")
    shop("distil --drain")
    text = shop("status")
    [line] = [line for line in text.splitlines() if line.startswith("drift ")]
    assert "inputs: stability index " in line
    assert "agreement with the teachers " in line
    assert "drifted" not in text
    short = [msgspec.structs.replace(one, candidates=one.candidates[:2]) for one in world.impressions(200)[120:]]
    shop.arrive("short", short, [])
    shop("join --flush")
    shop("distil --drain")
    sentence = "the inputs have drifted from list 120 on: list lengths (stability index "
    assert any(record.getMessage().startswith(sentence) for record in caplog.records)
    drifted = [line for line in shop("status").splitlines() if line.startswith("drifted ")]
    assert any(sentence in line for line in drifted)
    found = shop.json("status")["student"]
    assert found["drift"]["inputs"]["list lengths"] >= 0
    assert found["drifted"][0].startswith("the inputs have drifted from list 120 on")


def test_a_student_that_is_worked_on_is_said_to_be(shop: Shop) -> None:
    from recdistill.loops.distil import StudentFolder

    shop.write()
    with closing(StudentFolder(Path("student"), keep=1)):
        found = shop.json("status")
        assert found["student"]["works"] is True
        assert "no checkpoint yet" in shop("status")
        code, _, err = shop.type("checkpoints", "prune")
        assert code == 6
        assert "another distiller works in this folder" in err
    assert shop.json("status")["student"]["works"] is False


@pytest.mark.slow
def test_why_the_last_candidate_was_refused_and_what_is_judged_next(shop: Shop) -> None:
    """A planted registry and planted announcements: times are told as they were planted."""
    event_us = (time.time_ns() // 10**9 - 100) * 10**6
    with closing(shop.log()) as log:
        log.create_topics(standard_topics())
        bundles = [make_bundle(shop.folder / name, name) for name in ("first", "second", "third")]
        stage = log.stage("distil-bundles-x")
        for step, bundle in enumerate(bundles):
            when = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(event_us / 1e6 + 30))
            made = MadeBundle(
                bundle.content_hash,
                step=step,
                lanes=None,
                items=0,
                made_at=when,
                size=1,
                event_us=event_us,
                learnt_us=event_us + 5_000_000,
            )
            announce(stage, made)
        stage.close()
    registry = Registry(new_file(Path("recdistill-data/mlflow.sqlite")), "recdistill-student")
    first = registry.publish(bundles[0], judged(bundles[0]))
    registry.crown(first.number)
    registry.publish(bundles[1], judged(bundles[1], passed=False, reasons=["retention .5 is below .95"]))
    found = shop.json("status")
    releases = found["releases"]
    assert (releases["champion"], releases["refused"], releases["refused_since"]) == ("1", "2", True)
    assert releases["refused_reasons"] == ["retention .5 is below .95"]
    assert releases["waiting"] == 1
    assert releases["next"].startswith(f"bundle {bundles[2].content_hash[:12]} of step 2 waits: the topic held-out")
    hops = {one["hop"]: one["took_s"] for one in found["hops"]}
    assert hops["learnt"] == 5
    assert hops["exported"] == 30
    assert hops["judged"] == pytest.approx(time.time() - event_us / 1e6, abs=60)
    assert "last refused    version 2 at 2026-01-02T03:04:05+00:00: retention .5 is below .95" in shop("status")


class Fake:
    """A process that answers as told."""

    def __init__(self, ready: tuple[int, str], metrics: str) -> None:
        answers = {"/readyz": ready, "/metrics": (200, metrics)}

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, text = answers[self.path]
                self.send_response(status)
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.mark.slow
def test_processes_are_asked_and_one_that_is_down_is_a_sentence(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    served = 'recdistill_newest_event_seconds{hop="served"} 100.5\nrecdistill_passed_at_seconds{hop="served"} 103\n'
    ranker = Fake((200, "ok\n"), served)
    joiner = Fake((503, "the loop has been silent for 400 s; if it stays so, restart the process\n"), "")
    gone = Fake((200, ""), "")
    gone.close()
    for name, one in (("RANKER", ranker), ("JOINER", joiner), ("SCORER", gone)):
        monkeypatch.setenv(f"RECDISTILL__STATUS__PROCESSES__{name}", one.address)
    found = shop.json("status")
    said = {one["name"]: (one["ready"], one["says"]) for one in found["processes"]}
    assert said["ranker"] == (True, "")
    assert said["joiner"] == (False, "the loop has been silent for 400 s; if it stays so, restart the process")
    assert said["scorer"][0] is None
    assert said["scorer"][1].startswith("does not answer")
    assert [(one["hop"], one["took_s"]) for one in found["hops"]] == [("served", 2.5)]
    ranker.close()
    joiner.close()
    for nowhere in ("nowhere", "joiner:808²"):
        monkeypatch.setenv("RECDISTILL__STATUS__PROCESSES__JOINER", nowhere)
        assert "status.processes.joiner: must be host:port" in shop.type("status")[2]


def test_the_page_shows_what_the_verb_says(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.write()
    seen: list[bytes] = []

    class Once:
        """A stop signal that is set at the first wait; by then the page is asked."""

        def __enter__(self) -> Once:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def wait(self, _: float) -> bool:
            url = json.loads(shop.capsys.readouterr().out)["url"]
            for path in ("", "status.json"):
                with urllib.request.urlopen(url + path, timeout=10) as answer:
                    seen.append(answer.read())
            return True

    monkeypatch.setattr(status, "stopping", Once)
    shop("status --serve --json")
    html, figures = seen
    assert b"Where everything stands" in html
    assert b"http://" not in html.replace(b"http://www.w3.org/2000/svg", b""), "only the name of SVG"
    assert json.loads(figures)["backlog"][0]["behind"] == 60
    assert "--port goes with --serve" in shop.type("status", "--port", "1")[2]


def test_checkpoints_are_listed_verified_and_pruned(shop: Shop) -> None:
    shop.write()
    assert shop.type("checkpoints", "list")[0] == 6
    for verb in ("score --drain", "join --flush", "distil --drain --set distil.checkpoint_every=1 --set distil.keep=9"):
        shop(verb)
    rows = shop.json("checkpoints list")["checkpoints"]
    steps = [row["step"] for row in rows]
    assert steps == sorted(steps)
    assert len(steps) >= 4
    assert all(row["bytes"] > 1000 for row in rows)
    assert all(row["whole"] for row in shop.json("checkpoints verify")["checkpoints"])
    damaged = Path(rows[-1]["path"]) / "tensors.safetensors"
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    code, out, _ = shop.type("checkpoints", "verify", "--json")
    assert code == 6
    verdicts = json.loads(out)["checkpoints"]
    assert [row["whole"] for row in verdicts] == [True] * (len(steps) - 1) + [False]
    assert "tensors.safetensors" in verdicts[-1]["problem"]
    done = shop.json("checkpoints prune --keep 1")
    # The newest is damaged, so the newest whole one stays beside it.
    assert [Path(path).name for path in done["left"]] == [f"step-{steps[-2]}", f"step-{steps[-1]}"]
    assert len(done["deleted"]) == len(steps) - 2
    assert "--keep goes with `checkpoints prune`" in shop.type("checkpoints", "list", "--keep", "2")[2]
