"""The source `hub`, against a small Hub of its own on this machine: nothing here needs a network."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import pytest

from curate.contract.errors import MissingExtra, RequestError
from curate.load import hub, records

COMMIT, OTHER = "a" * 40, "b" * 40
REPOSITORIES: dict[str, dict[str, bytes]] = {
    "me/tiny": {
        "README.md": b"---\nlicense: cc-by-4.0\n---\n# Tiny\n",
        "data/train.jsonl": b'{"instruction": "Add.", "output": "3"}\n{"instruction": "Sum.", "output": "4"}\n',
        "data/test.jsonl": b'{"instruction": "Halve.", "output": "2"}\n',
    },
    "me/scripted": {"README.md": b"# Scripted\n", "scripted.py": b"open('ran.txt', 'w').write('remote code ran')\n"},
}


class Hub(BaseHTTPRequestHandler):
    """As much of the Hub as `datasets` asks for."""

    def do_GET(self) -> None:
        path = unquote(urlparse(self.path).path)
        name = next((name for name in REPOSITORIES if f"/{name}/" in path), None)
        if name is None:
            return self.answer(b'{"error": "no such repository"}', 404, {"X-Error-Code": "RepoNotFound"})
        if f"/{COMMIT}" not in path:
            return self.answer(b'{"error": "no such commit"}', 404, {"X-Error-Code": "RevisionNotFound"})
        files, place = REPOSITORIES[name], path.partition(COMMIT)[2].strip("/")
        if "/resolve/" in path:
            if place not in files:
                return self.answer(b"", 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
            etag = hashlib.sha1(files[place]).hexdigest()
            return self.answer(files[place], 200, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})
        if "/tree/" in path:
            return self.answer(json.dumps(listing(files, place)).encode())
        names = [{"rfilename": file} for file in files]
        return self.answer(json.dumps({"id": name, "sha": COMMIT, "siblings": names, "tags": []}).encode())

    do_HEAD = do_GET

    def answer(self, body: bytes, code: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def listing(files: dict[str, bytes], folder: str) -> list[dict[str, Any]]:
    """What stands in one folder of a repository."""
    start = f"{folder}/" if folder else ""
    inside = {file[len(start) :].split("/")[0]: file for file in files if file.startswith(start)}
    return [
        {"type": "file", "path": file, "oid": "0" * 40, "size": len(files[file])}
        if file == start + first
        else {"type": "directory", "path": start + first, "oid": "0" * 40, "size": 0}
        for first, file in inside.items()
    ]


ASK = """
import json, sys, time
from pathlib import Path
from curate.contract.errors import TamisError
from curate.load import records
answers = []
for options in json.loads(sys.argv[1]):
    start = time.monotonic()
    try:
        chunks = list(records.records("hub", options, data=Path(), seed=0))
        answer = [row for kept, _ in chunks for row in kept.drop("fields").to_dicts()]
    except TamisError as error:
        answer = f"{type(error).__name__}: {error}"
    answers.append([answer, time.monotonic() - start])
print(json.dumps(answers))
"""


def ask(folder: Path, endpoint: str, questions: list[dict[str, Any]], **environment: str) -> list[Any]:
    """Loads in a process of its own, which knows only that endpoint; (rows or sentence, seconds) for each question."""
    here = {
        **os.environ,
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(folder / "home"),
        "PYTHONPATH": os.getcwd(),
        **environment,
    }
    for name in ("HF_DATASETS_CACHE", "HF_HUB_CACHE", "HF_TOKEN"):
        here.pop(name, None)
    command = [sys.executable, "-c", ASK, json.dumps(questions)]
    done = subprocess.run(command, cwd=folder, env=here, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


TRAIN = {"path": "me/tiny", "revision": COMMIT}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What was answered while the Hub was there, and after it had gone; the working folder held a decoy."""
    folder = tmp_path_factory.mktemp("hub")
    decoy = folder / "me/tiny/train.jsonl"
    decoy.parent.mkdir(parents=True)
    decoy.write_text('{"instruction": "decoy", "output": "decoy"}\n')
    questions = {
        "train": TRAIN,
        "test": {**TRAIN, "split": "test", "name": "mine"},
        "no split": {**TRAIN, "split": "dev"},
        "no commit": {**TRAIN, "revision": OTHER},
        "no dataset": {**TRAIN, "path": "me/nothing"},
        "a script": {**TRAIN, "path": "me/scripted"},
        "no config": {**TRAIN, "config": "large"},
    }
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    endpoint = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        found = dict(zip(questions, ask(folder, endpoint, list(questions.values())), strict=True))
    finally:
        server.shutdown()
        server.server_close()
    gone = {"train, from the cache": TRAIN, "no network": {**TRAIN, "revision": OTHER}}
    found |= dict(zip(gone, ask(folder, endpoint, list(gone.values())), strict=True))
    found["remote code ran"] = (folder / "ran.txt").exists()
    return found


def test_rows_of_a_commit_become_records_with_revision_and_licence(answers: dict[str, Any]) -> None:
    rows, _ = answers["train"]
    assert [(row["prompt"], row["response"]) for row in rows] == [("Add.", "3"), ("Sum.", "4")]
    assert {(row["source"], row["revision"], row["license"], row["split"]) for row in rows} == {
        ("tiny", COMMIT, "cc-by-4.0", "train")
    }
    assert [(row["source"], row["split"], row["prompt"]) for row in answers["test"][0]] == [("mine", "test", "Halve.")]


def test_what_is_prepared_for_that_commit_is_read_without_a_network(answers: dict[str, Any]) -> None:
    assert answers["train, from the cache"][0] == answers["train"][0]


def test_a_missing_network_is_one_sentence_at_once(answers: dict[str, Any]) -> None:
    sentence, seconds = answers["no network"]
    assert sentence.startswith(f"SourceError: hub: no network to fetch me/tiny at {OTHER[:12]} (")
    assert "load them with `files:`" in sentence
    assert seconds < 5


@pytest.mark.parametrize(
    ("question", "sentence"),
    [
        ("no split", "SourceError: hub: me/tiny has no split 'dev'; there are: test, train"),
        ("no commit", f"SourceError: hub: me/tiny has no commit {OTHER}"),
        ("no dataset", "SourceError: hub: there is no dataset me/nothing, or it is private"),
        (
            "a script",
            "SourceError: hub: me/scripted at aaaaaaaaaaaa cannot be loaded: Dataset scripts are no longer supported",
        ),
        ("no config", "SourceError: hub: me/tiny at aaaaaaaaaaaa cannot be loaded: BuilderConfig 'large' not found"),
    ],
)
def test_what_the_hub_does_not_have_is_one_sentence(answers: dict[str, Any], question: str, sentence: str) -> None:
    assert answers[question][0].startswith(sentence)
    assert "\n" not in answers[question][0]


def test_code_of_a_repository_is_never_run(answers: dict[str, Any]) -> None:
    assert not answers["remote code ran"]


@pytest.mark.parametrize("revision", ["main", "v1.0", "dce01c9", "A" * 40])
def test_a_revision_that_can_move_is_refused(revision: str) -> None:
    with pytest.raises(RequestError, match=f"`revision: {revision}` of me/tiny is no commit.*40 hex digits"):
        list(hub.load(path="me/tiny", revision=revision))


@pytest.mark.parametrize("path", ["alpaca", "json", "../tiny", "https://huggingface.co/datasets/me/tiny"])
def test_a_path_that_is_no_dataset_of_the_hub_is_refused(path: str) -> None:
    with pytest.raises(RequestError, match="write owner/name"):
        list(hub.load(path=path, revision=COMMIT))


def test_the_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtra, match=r"pip install 'tamis\[hub\]'"):
        list(hub.load(path="me/tiny", revision=COMMIT))


def test_name_and_fingerprint_of_a_source_ask_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert records.describe("hub", {"path": "nyu-mll/glue", "revision": COMMIT, "config": "rte"}) == "glue-rte"
    facts = records.fingerprint("hub", {**TRAIN, "split": "test"}, data=Path())
    assert facts == {"hub": "me/tiny", "revision": COMMIT, "config": None, "split": "test"}
