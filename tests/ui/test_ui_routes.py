"""The page's routes: what hostile runs say is text, no name leads out of the folder, and who may ask for what."""

from __future__ import annotations

import json
import os
import re
from html.parser import HTMLParser

import numpy as np
import pytest

pytest.importorskip("starlette")
from starlette.testclient import TestClient

from runs import fake_runs
from thorndike.runs.storage.directory import training
from thorndike.ui import app as pages
from thorndike.ui import events, folder, guard, processes
from thorndike.ui.app import address, app
from thorndike.ui.events import Stream
from thorndike.ui.folder import Folder
from thorndike.ui.guard import Guard
from thorndike.ui.processes import Processes

MARKUP = "<img src=x onerror=alert(1)>\"'&</td><script>alert(2)</script>"
NAME = "<img src=x onerror=alert(1)>\"'&"
TOKEN, HERE = "a-token", "http://127.0.0.1:8000"
EXPECTED = {
    "html", "head", "meta", "title", "link", "script", "body", "h1", "h2", "form", "table", "thead", "tbody", "tr",
    "th", "td", "input", "a", "p", "button", "span", "div", "details", "summary",
}  # fmt: skip


class Parsed(HTMLParser):
    """Tags, the values of attributes and texts of a page."""

    def __init__(self, page: str):
        super().__init__()
        self.tags, self.handlers, self.values, self.words = [], [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        self.values += [value for _, value in attrs]

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture
def root(tmp_path):
    """A folder `runs` with a run in it, beside a secret."""
    (tmp_path / "secret.png").write_text("secret")
    fake_runs.make(tmp_path / "runs" / "first", seeds=2)
    return tmp_path / "runs"


def client(root, host="127.0.0.1", token=True):
    guard = Guard(TOKEN, host)
    found = TestClient(app(Folder(root), guard, Processes()), base_url=HERE, follow_redirects=False)
    if token:
        found.cookies.set(guard.cookie, TOKEN)
    found.word = guard.word
    return found


def post(page, path, **headers):
    return page.post(path, headers={"origin": HERE, "x-thorndike": page.word} | headers)


def test_the_list_and_a_run(root):
    page = client(root)
    assert "first" in Parsed(page.get("/").text).words
    words = Parsed(page.get("/show?run=first").text).words
    assert "finished at 20,000 of 20,000 steps" in words
    assert "thorndike resume" in " ".join(words)
    assert page.get("/show").headers["location"] == "/"
    assert "EventSource" in page.get("/curves.js").text
    assert page.get("/style.css").headers["content-type"].startswith("text/css")


def test_runs_side_by_side_say_what_differs(root):
    fake_runs.make(root / "other", fake_runs.settings("PPO", clip=0.4))
    words = Parsed(client(root).get("/show?run=first&run=other").text).words
    assert any("clip=0.2" in word for word in words)
    assert any("clip=0.4" in word for word in words)


def hostile(root):
    """A run that says markup wherever a text can be, and metrics of that name."""
    run = fake_runs.make(root / NAME, columns={MARKUP: np.arange(3.0), "rollout/ep_rew_mean": np.arange(3.0)})
    info = json.loads((run / "run.json").read_text())
    info |= {"algorithm": {"type": MARKUP, MARKUP: MARKUP}, "environment": {"id": MARKUP}, "base": MARKUP}
    (run / "run.json").write_text(json.dumps(info | {"changed": {MARKUP: MARKUP}}))
    status = json.loads((run / "status.json").read_text())
    (run / "status.json").write_text(json.dumps(status | {"state": MARKUP, "error": MARKUP}))
    return run


def test_what_runs_say_is_text(root):
    run = hostile(root)
    page = client(root)
    for path in ("/", "/show", "/show"):
        found = Parsed(page.get(path, params={"run": ["first", run.name]} if path == "/show" else {}).text)
        assert set(found.tags) <= EXPECTED
        assert found.tags.count("script") == 1
        assert not found.handlers
        assert any(run.name in word for word in found.words)
    assert any(MARKUP in word for word in found.words)


def test_without_escaping_the_check_of_text_fails(root, monkeypatch):
    """The mutant: `html` hands texts on as they are."""
    run = hostile(root)
    monkeypatch.setattr("thorndike.ui.views.html", str)
    found = Parsed(client(root).get("/show", params={"run": run.name}).text)
    assert "img" in found.tags
    assert found.handlers


def test_events_are_json_whose_text_ends_no_event(root):
    run = hostile(root)
    stream = Stream(Folder(root), Processes(), [run.name])
    text = "".join(stream.look())
    for block in text.strip().split("\n\n"):
        kind, data = block.split("\n")
        assert re.fullmatch(r"event: \w+", kind)
        assert data.startswith("data: ")
        told = json.loads(data[6:])
        assert told["run"] == run.name
    assert MARKUP in json.loads(text.split("data: ")[1].split("\n")[0])["rows"][0]["tags"]
    assert events.event("x", {"a": "b\n\nevent: y"}).count("\n\n") == 1


def test_the_script_makes_no_markup():
    """All texts go through `append` and `textContent`."""
    script = pages.files("thorndike.ui").joinpath("curves.js").read_text("utf-8")
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|new Function|https?:(?!//www\.w3)", script
    )


ESCAPES = [
    "..", "../runs/first", "first/../first", "/etc", "//etc", "first/../../secret.png", "", "linked", "linked/first",
    "first\\..\\first", "first\0", "./../runs", "nothing", "first/video", "%2e%2e",
]  # fmt: skip


@pytest.mark.parametrize("name", ESCAPES)
def test_names_do_not_lead_out(root, name, tmp_path):
    outside = fake_runs.make(tmp_path / "outside")
    (root / "linked").symlink_to(outside)
    (root / "first" / "video").mkdir()
    page = client(root)
    for path in ("/show", "/events", "/picture"):
        answer = page.get(path, params={"run": name, "file": "secret.png"})
        assert answer.status_code == 404
    for path in ("/stop", "/resume"):
        assert (
            page.post(path, params={"run": name}, headers={"origin": HERE, "x-thorndike": page.word}).status_code == 400
        )
    assert "outside" not in page.get("/").text


@pytest.mark.parametrize("file", folder.READ)
def test_files_that_are_links_are_not_read(root, file, tmp_path):
    other = fake_runs.make(tmp_path / "other", env="Secret-v0")
    (other / "lock").touch()
    (other / "resume.log").write_text("secret")
    run = fake_runs.make(root / "sly")
    (run / file).unlink(missing_ok=True)
    (run / file).symlink_to(other / file)
    page = client(root)
    assert page.get("/show?run=sly").status_code == 404
    assert "Secret-v0" not in page.get("/").text
    assert f"its {file} is a link" in page.get("/").text


def test_links_are_seen_without_which_the_check_fails(root, tmp_path, monkeypatch):
    """The mutant: links are followed."""
    other = fake_runs.make(tmp_path / "other", env="Secret-v0")
    run = fake_runs.make(root / "sly")
    (run / "run.json").unlink()
    (run / "run.json").symlink_to(other / "run.json")
    monkeypatch.setattr(folder, "_links", lambda run: [])
    assert "Secret-v0" in client(root).get("/").text


def test_the_newest_picture_and_none_from_elsewhere(root, tmp_path):
    run = root / "first"
    (run / "video").mkdir()
    (run / "old.png").write_bytes(b"old")
    os.utime(run / "old.png", (1, 1))
    (run / "video" / "20000.gif").write_bytes(b"new")
    (run / "page.svg").write_text("<svg onload=alert(1)>")
    (run / "video" / "sly.gif").symlink_to(tmp_path / "secret.png")
    (run / "sly.png").symlink_to(tmp_path / "secret.png")
    assert Folder(root).pictures("first") == ["video/20000.gif", "old.png"]
    page = client(root)
    found = page.get("/picture?run=first&file=video/20000.gif")
    assert (found.content, found.headers["content-type"]) == (b"new", "image/gif")
    for file in ("page.svg", "run.json", "sly.png", "video/sly.gif", "../../secret.png", "/etc/passwd", "video"):
        assert page.get("/picture", params={"run": "first", "file": file}).status_code == 404, file
    (told,) = [
        json.loads(x.split("data: ")[1]) for x in Stream(Folder(root), Processes(), ["first"]).look() if "state" in x
    ]
    assert told["picture"][0] == "video/20000.gif"


def test_the_folder_itself_may_be_a_run(root):
    assert Folder(root / "first").run(".") == root / "first"
    assert client(root / "first").get("/show?run=.").status_code == 200


LOCAL = ["127.0.0.1", "127.0.0.1:8000", "localhost:1234", "[::1]:8000", "LOCALHOST"]
FOREIGN = [
    "evil.example",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "evil.example:8000",
    "",
    "10.0.0.1",
    "[::1",
]


def test_the_host_header(root):
    page = client(root)
    assert all(page.get("/", headers={"host": host}).status_code == 200 for host in LOCAL)
    assert all(page.get("/", headers={"host": host}).status_code == 421 for host in FOREIGN)
    for host in FOREIGN:  # nor with the token in the address
        answer = page.get(f"/?token={TOKEN}", headers={"host": host})
        assert answer.status_code == 421
        assert "set-cookie" not in answer.headers


def test_the_host_header_where_others_may_look(root):
    page = client(root, "0.0.0.0")
    names = [*LOCAL, "192.168.1.5:8000", guard.socket.gethostname()]
    assert all(page.get("/", headers={"host": host}).status_code == 200 for host in names)
    assert page.get("/", headers={"host": "evil.example"}).status_code == 421
    assert client(root, "gpu.lab").get("/", headers={"host": "gpu.lab:8000"}).status_code == 200


PATHS = ["/", "/show?run=first", "/events", "/picture?run=first&file=a.png", "/curves.js", "/style.css", "/no"]


@pytest.mark.parametrize("path", PATHS)
def test_nothing_is_shown_without_the_token(root, path):
    page = client(root, token=False)
    answer = page.get(path)
    assert answer.status_code == 403
    assert "first" not in answer.text
    assert page.get(path, headers={"cookie": f"{Guard(TOKEN).cookie}=another"}).status_code == 403
    wrong = page.get(path + ("&" if "?" in path else "?") + "token=another")
    assert (wrong.status_code, "set-cookie" in wrong.headers) == (403, False)


def test_the_token_becomes_a_cookie(root):
    page = client(root, token=False)
    answer = page.get(f"/show?run=first&token={TOKEN}")
    assert (answer.status_code, answer.headers["location"]) == (303, "/show?run=first")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert page.get("/").status_code == 200  # the client keeps cookies
    assert page.get(f"{HERE}//evil.example/?token={TOKEN}").headers["location"].startswith("/evil.example")


def test_tokens_are_long_and_new():
    assert len(Guard().token) >= 32
    assert Guard().token != Guard().token
    assert Guard().word != Guard().word
    assert address("::1", 80, "a b") == "http://[::1]:80/?token=a%20b"


@pytest.mark.parametrize("path", ["/stop", "/resume"])
def test_what_acts_is_asked_by_this_page_alone(root, path, monkeypatch):
    done = []
    monkeypatch.setattr(Processes, path[1:], lambda *args: done.append(args) or "done")
    page = client(root)
    path += "?run=first"
    refused = [
        client(root, token=False).post(path, headers={"origin": HERE, "x-thorndike": page.word}),
        page.post(path),
        page.post(path, headers={"origin": HERE}),
        page.post(path, headers={"x-thorndike": page.word}),
        post(page, path, origin="http://evil.example"),
        post(page, path, origin="http://127.0.0.1:9000"),
        post(page, path, origin="null"),
        post(page, path, **{"x-thorndike": "another"}),
        page.post(f"{path}&token={TOKEN}"),
    ]
    assert [answer.status_code for answer in refused] == [403] * len(refused)
    assert page.get(path).status_code == 405
    assert not done
    assert post(page, path).json() == {"said": "done"}
    assert len(done) == 1


def test_headers(root):
    for path in ("/", "/no", "/show?run=nothing"):
        found = client(root).get(path).headers
        assert "default-src 'none'" in found["content-security-policy"]
        assert "unsafe" not in found["content-security-policy"]
        assert found["x-content-type-options"] == "nosniff"
        assert found["referrer-policy"] == "no-referrer"
        assert "access-control-allow-origin" not in found


def test_what_cannot_be_resumed_is_said(root):
    page = client(root)
    assert "to go on, give more than these" in post(page, "/resume?run=first").json()["said"]
    assert "whole number" in post(page, "/resume?run=first&steps=-5").json()["said"]
    assert "nothing to stop" in post(page, "/stop?run=first").json()["said"]
    for name, change in {
        "module": {"environment": {"id": "evil:Env-v0", "kwargs": {}}},
        "object": {"environment": {"id": "Mine", "object": "Mine"}},
        "class": {"algorithm": {"type": "own Mine"}},
    }.items():
        run = fake_runs.make(root / name, state="interrupted")
        info = json.loads((run / "run.json").read_text())
        (run / "run.json").write_text(json.dumps(info | change | {"steps": 90_000}))
        assert "not imported here" in post(page, f"/resume?run={name}").json()["said"], name


def test_damaged_runs_do_not_hide_the_others(root):
    for name, file, text in [
        ("a", "status.json", '{"state": "finished", "steps": "many", "seconds": 1}'),
        ("b", "status.json", '{"state": [], "steps": 1, "seconds": 1, "return_mean": ["x"]}'),
        ("c", "run.json", "{"),
        ("d", "run.json", "[" * 100_000),
    ]:
        (fake_runs.make(root / name) / file).write_text(text)
    page = client(root)
    found = Parsed(page.get("/").text)
    assert sum(word.startswith("broken: ") for word in found.words) == 4
    assert "first" in found.words
    assert all(page.get(f"/show?run={name}&run=first").status_code == 200 for name in "abcd")


def test_a_name_that_is_no_text(root):
    made = os.fsencode(root) + b"/\xff\xfe"
    os.rename(fake_runs.make(root / "plain"), made)
    assert client(root).get("/").status_code == 200
    assert all(Stream(Folder(root), Processes(), []).look())


def test_a_killed_run_is_interrupted(root):
    """`status.json` says "running", and nobody holds the lock."""
    run = fake_runs.make(root / "killed", state="running")
    (run / "lock").touch()
    assert "interrupted at 20,000 of 20,000 steps" in Parsed(client(root).get("/show?run=killed").text).words
    assert "interrupted" in Parsed(client(root).get("/").text).words
    status = json.loads((run / "status.json").read_text())
    (run / "status.json").write_text(json.dumps(status | {"steps": 7_000}))  # as old as the newest checkpoint
    with training(run):
        assert "running at 20,000 of 20,000 steps" in Parsed(client(root).get("/show?run=killed").text).words
        assert "running" in Parsed(client(root).get("/").text).words
        assert processes.trainer(run) is None  # this process does not stop itself


def test_what_is_read_again(root, monkeypatch):
    """A list of many runs reads those alone that have changed."""
    read = []
    record_of = folder.record_of
    monkeypatch.setattr(folder, "record_of", lambda path: read.append(path.name) or record_of(path))
    fake_runs.make(root / "other")
    runs = Folder(root)
    assert len(runs.records()) == 2
    read.clear()
    runs.records()
    assert not read
    status = json.loads((root / "other" / "status.json").read_text())
    (root / "other" / "status.json").write_text(json.dumps(status | {"steps": 12}))
    assert [one["steps"] for one in runs.records()] == [20_000, 12]
    assert read == ["other"]
