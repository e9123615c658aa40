"""What the page's server answers, and to whom; how a person labels, takes back, leaves and goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from pairsmith.errors import ConfigError
from pairsmith.labelling.app import MOST, labelling_app, page_html
from pairsmith.labelling.desk import Desk
from pairsmith.labelling.journal import Journal, labels_in, open_journal
from pairsmith.labelling.serving import serving
from tests.labelling.made import a_draw

ORIGIN = "http://127.0.0.1:8000"


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with open_journal(tmp_path, "ann") as opened:
        yield opened


@pytest.fixture
def client(journal: Journal) -> TestClient:
    return client_of(Desk(a_draw(4), journal, "ann"))


def client_of(desk: Desk) -> TestClient:
    return TestClient(labelling_app(desk, "token", lambda: None), base_url=ORIGIN, headers={"Origin": ORIGIN})


def label(client: TestClient, choice: str, note: str = "") -> dict[str, Any]:
    pair = client.get("/token/state").json()["pair"]
    found: dict[str, Any] = client.post(
        "/token/label", json={"pair": pair["id"], "choice": choice, "note": note}
    ).json()
    return found


def test_all_choices_are_kept_as_the_answer_that_was_meant(client: TestClient, journal: Journal) -> None:
    draw = a_draw(4)
    for choice in ("left", "right", "tie", "skip"):
        shown = client.get("/token/state").json()["pair"]
        state = label(client, choice, " a note ")
        kept, gold = journal.now[shown["id"]], draw.pairs[shown["id"]].gold
        texts = {"a": gold.a, "b": gold.b}
        assert (texts[kept.left], kept.note) == (shown["left"], "a note")
        assert texts.get(kept.better or "", kept.better) == shown.get(choice, choice)
    assert (state["done"], state["total"], state["pair"]) == (4, 4, None)


def test_the_last_label_is_taken_back_with_its_note(client: TestClient, journal: Journal) -> None:
    assert client.post("/token/undo", json={}).json()["done"] == 0  # nothing to take back
    first = client.get("/token/state").json()["pair"]["id"]
    label(client, "left", "because")
    label(client, "tie")
    for done in (1, 0):
        assert client.post("/token/undo", json={}).json()["done"] == done
    shown = client.get("/token/state").json()
    assert (shown["pair"]["id"], shown["pair"]["note"], shown["can_undo"]) == (first, "because", False)
    assert journal.now == {}


def test_what_was_begun_goes_on_with_more_pairs_and_undo_brings_back_the_last(journal: Journal) -> None:
    label(client_of(Desk(a_draw(3), journal, "ann")), "left")
    client = client_of(Desk(a_draw(8), Journal(journal.path), "ann"))
    assert client.get("/token/state").json()["done"] == 1
    (last,) = journal.now
    assert client.post("/token/undo", json={}).json()["pair"]["id"] == last


def test_two_people_label_the_same_pairs_in_their_own_order(tmp_path: Path) -> None:
    seen: dict[str, list[str]] = {}
    for who in ("ann", "bob"):
        with open_journal(tmp_path, who) as journal:
            client = client_of(Desk(a_draw(12), journal, who))
            while pair := client.get("/token/state").json()["pair"]:
                seen.setdefault(who, []).append(pair["id"])
                label(client, "left")
    assert sorted(seen["ann"]) == sorted(seen["bob"])
    assert seen["ann"] != seen["bob"]
    assert {who: len(labels) for who, labels in labels_in(tmp_path).items()} == {"ann": 12, "bob": 12}


def test_a_page_that_is_behind_is_told_so_and_changes_nothing(client: TestClient, journal: Journal) -> None:
    first = client.get("/token/state").json()["pair"]["id"]
    label(client, "left")
    answer = client.post("/token/label", json={"pair": first, "choice": "right"})
    assert answer.status_code == 409
    assert len(journal.now) == 1


def test_nothing_tells_models_scores_or_why_a_pair_is_shown(client: TestClient) -> None:
    pair = client.get("/token/state").json()["pair"]
    assert pair.keys() == {"id", "prompt", "left", "right", "note"}


@pytest.mark.parametrize("what", ["", "state", "label", "undo", "finish"])
@pytest.mark.parametrize(
    ("token", "host", "status"),
    [("guess", "127.0.0.1:8000", 404), ("token", "evil.example:80", 403), ("token", "127.0.0.1.evil.example:80", 403)],
)
def test_strangers_are_refused(
    client: TestClient, journal: Journal, what: str, token: str, host: str, status: int
) -> None:
    headers = {"Host": host, "Origin": f"http://{host}"}
    if what in ("", "state"):
        answer = client.get(f"/{token}/{what}", headers=headers)
    else:
        shown = client.get("/token/state").json()["pair"]["id"]
        answer = client.post(f"/{token}/{what}", json={"pair": shown, "choice": "left"}, headers=headers)
    assert answer.status_code == status
    assert journal.now == {}
    assert "Question" not in answer.text


@pytest.mark.parametrize("what", ["label", "undo", "finish"])
@pytest.mark.parametrize("origin", ["http://evil.example", "http://127.0.0.1:9", "https://127.0.0.1:8000", "null"])
def test_another_web_page_is_refused(client: TestClient, journal: Journal, what: str, origin: str) -> None:
    label(client, "left")
    before, shown = dict(journal.now), client.get("/token/state").json()["pair"]["id"]
    said = {"pair": shown, "choice": "left"}
    assert client.post(f"/token/{what}", json=said, headers={"Origin": origin}).status_code == 403
    assert journal.now == before


def test_a_form_or_a_request_without_origin_cannot_label(client: TestClient, journal: Journal) -> None:
    shown = client.get("/token/state").json()["pair"]["id"]
    said = {"pair": shown, "choice": "left"}
    assert client.post("/token/label", data=said).status_code == 400
    client.headers.pop("Origin")
    assert client.post("/token/label", json=said).status_code == 403
    assert journal.now == {}


@pytest.mark.parametrize(
    "said",
    [{"choice": "best"}, {"pair": 3}, {"note": 3}, {"note": "x" * 2001}, {"note": "x" * MOST}, [], {}],
)
def test_what_is_no_label_is_refused(client: TestClient, journal: Journal, said: Any) -> None:
    pair = client.get("/token/state").json()["pair"]["id"]
    whole = {"pair": pair, "choice": "left", "note": ""} | said if said else said
    assert client.post("/token/label", json=whole).status_code == 400
    assert journal.now == {}


def test_a_label_that_cannot_be_saved_is_told(
    client: TestClient, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    shown = client.get("/token/state").json()["pair"]["id"]
    monkeypatch.setattr("os.fsync", full)
    answer = client.post("/token/label", json={"pair": shown, "choice": "left"})
    assert (answer.status_code, answer.text) == (500, "not saved: No space left on device")
    assert client.get("/token/state").json()["pair"]["id"] == shown


def test_every_answer_has_the_headers_that_keep_scripts_and_other_sites_out(client: TestClient) -> None:
    for answer in (client.get("/token/"), client.get("/token/state"), client.get("/guess/")):
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert "http" not in page_html()


def test_the_server_listens_on_the_loopback_address_until_the_block_ends(journal: Journal) -> None:
    with serving(Desk(a_draw(2), journal, "ann")) as (address, done):
        assert address.startswith("http://127.0.0.1:")
        assert httpx.get(f"{address}state", trust_env=False).json()["total"] == 2
        origin = {"Origin": address.rsplit("/", 2)[0]}
        assert httpx.post(f"{address}finish", json={}, headers=origin, trust_env=False).status_code == 200
        assert done.wait(5)
        port = int(address.split(":")[2].split("/")[0])
        with pytest.raises(ConfigError, match=f"--port {port}"), serving(Desk(a_draw(2), journal, "ann"), port):
            pass
    with pytest.raises(httpx.ConnectError):
        httpx.get(address, trust_env=False)
