"""A Hugging Face hub on this machine: repositories with commits, read and written by the hub's own client."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from tests.support.file_server import answer_for_the_hub, set_of_the_hub

Files = dict[str, bytes]
LARGE = (".safetensors", ".bin", ".pt")


class HubServer(ThreadingHTTPServer):
    """Answers what the client asks in reading and pushing.

    `repos` holds the files of each commit of a repository and its branches; `private` those that need the token, and
    `gated` those that nobody may read; `requests` what was asked.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.token = "hf_secret"
        self.commits: dict[str, dict[str, Files]] = {}
        self.branches: dict[str, dict[str, str]] = {}
        self.private: set[str] = set()
        self.gated: set[str] = set()
        self.large: Files = {}
        self.requests: list[str] = []
        self.fails: str | None = None
        """What is refused: the start of a path."""

    def commit(self, repo: str, files: Files, branch: str = "main") -> str:
        """Add files to a branch, made where it is missing, and return the commit."""
        before = self.files(repo, branch) or {}
        after = {**before, **files}
        digest = hashlib.sha1(repr(sorted(after.items())).encode()).hexdigest()
        self.commits.setdefault(repo, {})[digest] = after
        self.branches.setdefault(repo, {})[branch] = digest
        return digest

    def resolve(self, repo: str, revision: str) -> str | None:
        """Return the commit of a revision."""
        revision = self.branches.get(repo, {}).get(revision, revision)
        return revision if revision in self.commits.get(repo, {}) else None

    def files(self, repo: str, revision: str = "main") -> Files | None:
        commit = self.resolve(repo, revision)
        return None if commit is None else self.commits[repo][commit]


class _Answer(BaseHTTPRequestHandler):
    server: HubServer

    def do_HEAD(self) -> None:
        self._read(body=False)

    def do_GET(self) -> None:
        self._read(body=True)

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = self._parts()
        if self._fails():
            return self._say(403)
        if parts == ["api", "validate-yaml"]:
            return self._say(200, {"errors": [], "warnings": []})
        if parts[-1:] == ["batch"]:
            return self._lfs(json.loads(content))
        if self.headers.get("Authorization") != f"Bearer {self.server.token}":
            return self._say(401, {"error": "Invalid username or password."})
        if parts == ["api", "repos", "create"]:
            return self._create(json.loads(content))
        repo, action = "/".join(parts[2:4]), parts[4]
        if repo not in self.server.commits:
            return self._say(404, code="RepoNotFound")
        if action == "preupload":
            return self._preupload(json.loads(content))
        assert action == "commit", self.path
        return self._commit(repo, parts[5], [json.loads(line) for line in content.splitlines()])

    def do_PUT(self) -> None:
        if self._fails():
            return self._say(403)
        length, parts = self.headers.get("Content-Length"), []
        if length is not None:
            parts.append(self.rfile.read(int(length)))
        else:
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
        self.server.large[self._parts()[1]] = b"".join(parts)
        return self._say(200)

    def log_message(self, *_: Any) -> None:
        pass

    # Reading

    def _read(self, *, body: bool) -> None:
        parts = self._parts()
        if self._fails():
            return self._say(403)
        if parts[:2] == ["api", "whoami-v2"]:
            return self._say(200, {"name": "user", "type": "user", "auth": {}})
        if parts[:2] == ["api", "models"]:
            return self._info("/".join(parts[2:4]), parts[5] if len(parts) > 5 else "main")
        if parts[2:3] != ["resolve"]:
            return self._say(404)
        repo, revision, name = "/".join(parts[:2]), parts[3], "/".join(parts[4:])
        if not self._may_read(repo):
            return None
        commit = self.server.resolve(repo, revision)
        if commit is None:
            return self._say(404, code="RevisionNotFound")
        content = self.server.commits[repo][commit].get(name)
        headers = {"X-Repo-Commit": commit}
        if content is None:
            return self._say(404, code="EntryNotFound", headers=headers)
        etag = hashlib.sha256(content).hexdigest() if name.endswith(LARGE) else hashlib.sha1(content).hexdigest()
        if name.endswith(LARGE):
            headers |= {"X-Linked-Size": str(len(content)), "X-Linked-ETag": f'"{etag}"'}
        return self._say(200, content, headers=headers | {"ETag": f'"{etag}"', "Accept-Ranges": "bytes"}, body=body)

    def _info(self, repo: str, revision: str) -> None:
        if not self._may_read(repo):
            return None
        commit = self.server.resolve(repo, revision)
        if commit is None:
            return self._say(404, code="RevisionNotFound")
        names = [{"rfilename": name} for name in self.server.commits[repo][commit]]
        return self._say(200, {"id": repo, "modelId": repo, "sha": commit, "siblings": names, "private": False})

    def _may_read(self, repo: str) -> bool:
        allowed = self.headers.get("Authorization") == f"Bearer {self.server.token}"
        if repo not in self.server.commits or (repo in self.server.private and not allowed):
            # As the hub does, which does not tell whether a private repository exists.
            self._say(404 if allowed else 401, code="RepoNotFound")
            return False
        if repo in self.server.gated:
            self._say(403, code="GatedRepo")
            return False
        return True

    # Writing

    def _create(self, wanted: dict[str, Any]) -> None:
        repo = f"{wanted.get('organization') or 'user'}/{wanted['name']}"
        status = 409 if repo in self.server.commits else 200
        if status == 200:
            self.server.commit(repo, {".gitattributes": b"*.safetensors filter=lfs\n"})
            if wanted.get("private") or wanted.get("visibility") == "private":
                self.server.private.add(repo)
        return self._say(status, {"url": f"{self.server.url}/{repo}", "id": repo, "name": repo})

    def _preupload(self, wanted: dict[str, Any]) -> None:
        modes = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular",
                "shouldIgnore": False,
            }
            for file in wanted["files"]
        ]
        return self._say(200, {"files": modes})

    def _lfs(self, wanted: dict[str, Any]) -> None:
        objects = [
            {**each, "actions": {"upload": {"href": f"{self.server.url}/upload/{each['oid']}", "header": {}}}}
            for each in wanted["objects"]
        ]
        return self._say(200, {"transfer": "basic", "objects": objects}, kind="application/vnd.git-lfs+json")

    def _commit(self, repo: str, revision: str, lines: list[dict[str, Any]]) -> None:
        if self.server.resolve(repo, revision) is None:
            return self._say(404, code="RevisionNotFound")
        files: Files = {}
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.large[value["oid"]]
        commit = self.server.commit(repo, files, revision)
        url = f"{self.server.url}/{repo}/commit/{commit}"
        return self._say(200, {"success": True, "commitOid": commit, "commitUrl": url, "hookOutput": ""})

    # Both

    def _parts(self) -> list[str]:
        self.server.requests.append(f"{self.command} {self.path}")
        return [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]

    def _fails(self) -> bool:
        return self.server.fails is not None and self.path.startswith(self.server.fails)

    def _say(
        self,
        status: int,
        content: Any = b"",
        *,
        code: str | None = None,
        headers: dict[str, str] | None = None,
        kind: str = "application/json",
        body: bool = True,
    ) -> None:
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)


@contextmanager
def hub_server(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[HubServer]:
    """Run a hub in place of the real one for the client of this process, whose cache is in a folder."""
    server = HubServer()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    # What HF_ENDPOINT, HF_HUB_CACHE, HF_HUB_OFFLINE and HF_TOKEN set when the client is imported.
    answer_for_the_hub(server.url, folder / "hub", monkeypatch)
    set_of_the_hub(monkeypatch, "HF_HUB_DISABLE_XET", True)
    set_of_the_hub(monkeypatch, "HF_HUB_DISABLE_IMPLICIT_TOKEN", False)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    set_of_the_hub(monkeypatch, "HF_TOKEN_PATH", str(folder / "token"))
    monkeypatch.setenv("ANOMALIB_ZSAD_HOME", str(folder / "home"))
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
