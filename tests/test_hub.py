"""Models of the hub: the real client, against a server on this machine that speaks its protocol."""

import hashlib
import json
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

import pytest

from mattergen_lite.hub import download, is_hub_name

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAME = f"hf:org/salts@{COMMIT}"
FILES = {
    "config.yaml": b"network: {}\n",
    "weights.safetensors": b"weights",
    "predictors/band_gap/head.yaml": b"a: 1\n",
    "modeling.py": b"raise SystemExit('this must not be fetched')",
    "pytorch_model.bin": b"a pickle",
}


class Hub(BaseHTTPRequestHandler):
    """One repository with one commit."""

    def __init__(self, asked: list[str], *arguments: object) -> None:
        self.asked = asked
        super().__init__(*arguments)

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = unquote(urlsplit(self.path).path)
        self.asked.append(path)
        api, files = "/api/models/org/salts/", f"/org/salts/resolve/{COMMIT}/"
        if path == f"{api}revision/{COMMIT}":
            siblings = [{"rfilename": name} for name in FILES]
            self.answer(json.dumps({"id": "org/salts", "sha": COMMIT, "siblings": siblings}))
        elif path == f"{api}tree/{COMMIT}":
            tree = [
                {"type": "file", "path": name, "size": len(content), "oid": "0" * 40}
                for name, content in FILES.items()
            ]
            self.answer(json.dumps(tree))
        elif path.startswith(files) and path.removeprefix(files) in FILES:
            self.answer(FILES[path.removeprefix(files)])
        else:
            self.answer("", 404)

    def answer(self, content: str | bytes, status: int = 200) -> None:
        body = content.encode() if isinstance(content, str) else content
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """Paths that were asked of the hub, whose cache is new and empty."""
    constants = pytest.importorskip("huggingface_hub.constants")
    found: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Hub, found))
    Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(
        constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        address + "/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    yield found
    server.shutdown()
    server.server_close()


def test_only_the_files_of_a_model_folder_are_fetched(asked):
    folder = download(NAME)
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert found == {"config.yaml", "weights.safetensors", "predictors/band_gap/head.yaml"}
    assert (folder / "weights.safetensors").read_bytes() == b"weights"
    assert not [path for path in asked if path.endswith((".py", ".bin"))]


def test_another_repository_is_one_line(asked):
    with pytest.raises(ValueError, match="cannot fetch hf:org/sugars"):
        download(NAME.replace("salts", "sugars"))


@pytest.mark.parametrize(
    "name",
    ["hf:org/salts", "hf:org/salts@main", f"hf:../salts@{COMMIT}", f"hf:salts@{COMMIT}", "hf:"],
)
def test_a_name_without_a_commit_is_refused(name):
    assert is_hub_name(name)
    with pytest.raises(ValueError, match="expected hf:organisation/model@commit"):
        download(name)


def test_folders_are_no_names_of_the_hub():
    assert not is_hub_name("mp")
    assert not is_hub_name(str(Path("checkpoints") / "mp"))
