"""A small Incus server on a Unix socket: real HTTP, with just what the provider uses."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.unit.providers.fake_program import FakeProgram

Row = dict[str, Any]
TOTAL = 2**40


class FakeIncus:
    """Its state; tests change it, and read what was asked for.

    Args:
        failures: by method and path, the HTTP status and the message of a refusal.
    """

    def __init__(self, *members: str) -> None:
        self.auth = "trusted"
        self.projects = {"default"}
        self.pools = ["default"]
        self.members: dict[str, Row] = {
            name: {
                "server_name": name,
                "url": f"https://10.1.0.{number}:8443",
                "status": "Online",
                "message": "Fully operational",
            }
            for number, name in enumerate(members, 1)
        }
        self.free_memory: dict[str, int] = {}
        self.instances: dict[str, Row] = {}
        self.networks: dict[str, Row] = {}
        self.aliases: dict[str, str] = {}
        self.files: dict[str, dict[str, tuple[str, Mapping[str, str]]]] = {}
        self.snapshots: dict[str, dict[str, Row]] = {}
        self.failures: dict[tuple[str, str], tuple[int, str]] = {}
        self.operations: dict[str, Row] = {}
        self.operation_error = ""
        self.slow_waits = 0
        self.raw = b""
        self.requests: list[tuple[str, str]] = []
        self.lock = threading.Lock()
        self.program = FakeProgram()

    def handle(
        self, method: str, path: str, query: Mapping[str, str], body: bytes, headers: Any
    ) -> tuple[int, Row | bytes]:
        """The status and the document that answer a request."""
        with self.lock:
            self.requests.append((method, path))
            if self.raw:
                return 200, self.raw
            if (method, path) in self.failures:
                return _error(*self.failures[method, path])
            parts = [unquote(part) for part in path.strip("/").split("/")[1:]]
            kind = parts[0].replace("-", "_") if parts else "server"
            answer: tuple[int, Row] = getattr(self, f"_{kind}")(
                method, parts[1:], query, body, headers
            )
            return answer

    def _server(self, *_: object) -> tuple[int, Row]:
        name = next(iter(self.members), "alone")
        return _sync({"auth": self.auth, "environment": {"server_name": name}})

    def _projects(self, _method: str, parts: list[str], *_: object) -> tuple[int, Row]:
        return _sync({}) if parts[0] in self.projects else _error(404, "Project not found")

    def _storage_pools(self, *_: object) -> tuple[int, Row]:
        return _sync([{"name": name} for name in self.pools])

    def _cluster(self, _method: str, parts: list[str], *_: object) -> tuple[int, Row]:
        if not parts:
            return _sync({"enabled": bool(self.members)})
        return _sync(list(self.members.values()))

    def _resources(
        self, _method: str, _parts: object, query: Mapping[str, str], *_: object
    ) -> tuple[int, Row]:
        used = TOTAL - self.free_memory.get(query.get("target", ""), 0)
        return _sync({"memory": {"total": TOTAL, "used": used}})

    def _networks(
        self, method: str, parts: list[str], query: Mapping[str, str], body: bytes, _: object
    ) -> tuple[int, Row]:
        if method == "GET" and not parts:
            return _sync(list(self.networks.values()))
        if method == "POST":
            data = json.loads(body)
            pending = self.networks.setdefault(
                data["name"], {"name": data["name"], "status": "Pending", "targets": []}
            )
            if "target" in query:
                pending["targets"].append(query["target"])
            elif sorted(pending["targets"]) != sorted(self.members):
                return _error(400, "Network not defined on every member")
            else:
                pending.update(status="Created", config=data["config"])
            return _sync({})
        if parts[0] not in self.networks:
            return _error(404, "Network not found")
        if method == "DELETE":
            del self.networks[parts[0]]
        if method == "PATCH":
            self.networks[parts[0]]["config"].update(json.loads(body)["config"])
        return _sync(self.networks.get(parts[0], {}))

    def _images(
        self, method: str, parts: list[str], _query: object, body: bytes, _: object
    ) -> tuple[int, Row]:
        if method == "POST" and parts:
            data = json.loads(body)
            self.aliases[data["name"]] = data["target"]
            return _sync({})
        if method == "POST":
            return self._operation({"fingerprint": f"f{len(body)}"})
        name = parts[-1]
        return _sync({"name": name}) if name in self.aliases else _error(404, "Alias not found")

    def _instances(
        self, method: str, parts: list[str], query: Mapping[str, str], body: bytes, headers: Any
    ) -> tuple[int, Row]:
        if not parts:
            if method == "POST":
                return self._create(json.loads(body), query)
            return _sync(list(self.instances.values()))
        name, *rest = parts
        if name not in self.instances:
            return _error(404, "Instance not found")
        row = self.instances[name]
        if rest[:1] == ["files"]:
            self.files.setdefault(name, {})[query["path"]] = (body.decode(), dict(headers))
        elif rest == ["exec"]:
            return 202, {"type": "async", "metadata": self.program.begin(json.loads(body))}
        elif rest[:1] == ["state"]:
            return self._change(row, json.loads(body)["action"])
        elif rest[:1] == ["snapshots"]:
            return self._snapshots(method, name, rest[1:], body)
        elif method == "DELETE":
            if row["status"] != "Stopped":
                return _error(400, "The instance is currently running")
            del self.instances[name]
            self.snapshots.pop(name, None)
            return self._operation({})
        elif method == "PATCH":
            row["config"].update(json.loads(body)["config"])
        elif method == "PUT":
            row["restored"] = json.loads(body)["restore"]
            return self._operation({})
        return _sync(row)

    def _create(self, data: Row, query: Mapping[str, str]) -> tuple[int, Row]:
        if data["source"]["alias"] not in self.aliases:
            return _error(404, "Image not found")
        member = query.get("target", next(iter(self.members), "none"))
        self.instances[data["name"]] = {**data, "status": "Stopped", "location": member}
        return self._operation({})

    def _change(self, row: Row, action: str) -> tuple[int, Row]:
        after = {"start": "Running", "stop": "Stopped", "freeze": "Frozen", "unfreeze": "Running"}
        if row["status"] == after[action]:
            return self._operation({}, f"The instance is already {row['status'].lower()}")
        row["status"] = after[action]
        return self._operation({})

    def _snapshots(self, method: str, name: str, rest: list[str], body: bytes) -> tuple[int, Row]:
        own = self.snapshots.setdefault(name, {})
        if method == "POST":
            new = json.loads(body)["name"]
            own[new] = {"name": new, "created_at": f"2026-01-01T00:00:0{len(own)}Z"}
            own[new]["taken_while"] = self.instances[name]["status"]
            return self._operation({})
        if not rest:
            return _sync(list(own.values()))
        if rest[0] not in own:
            return _error(404, "Instance snapshot not found")
        if method == "DELETE":
            del own[rest[0]]
            return self._operation({})
        return _sync(own[rest[0]])

    def _operation(self, metadata: Row, error: str = "") -> tuple[int, Row]:
        own = str(len(self.operations) + 1)
        failure = error or self.operation_error
        code = 400 if failure else 200
        self.operations[own] = {"status_code": code, "err": failure, "metadata": metadata}
        operation = {"id": own, "status_code": 103, "description": "Testing"}
        return 202, {"type": "async", "metadata": operation}

    def _operations(self, _method: str, parts: list[str], *_: object) -> tuple[int, Row]:
        if parts[0] == FakeProgram.ID:
            return self.program.wait()
        if self.slow_waits:
            self.slow_waits -= 1
            return _error(500, "context deadline exceeded")
        return _sync(self.operations[parts[0]])


def _sync(metadata: object) -> tuple[int, Row]:
    return 200, {"type": "sync", "metadata": metadata}


def _error(code: int, message: str) -> tuple[int, Row]:
    return code, {"type": "error", "error": message, "error_code": code}


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 64


@contextmanager
def serving(fake: FakeIncus, socket: Path) -> Iterator[None]:
    """Serve it on a Unix socket."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def address_string(self) -> str:
            return "unix"

        def log_message(self, *_: object) -> None:
            """Print nothing."""

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            data = b""
            while size := int(self.rfile.readline(), 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return data

        def _head(self) -> bytes:
            lines = [self.requestline, *(f"{k}: {v}" for k, v in self.headers.items()), "", ""]
            return "\r\n".join(lines).encode()

        def _answer(self) -> None:
            url = urlsplit(self.path)
            query = {key: values[0] for key, values in parse_qs(url.query).items()}
            if self.headers.get("Upgrade") == "websocket":
                fake.program.serve(query["secret"], self.connection, self._head())
                self.close_connection = True
                return
            status, document = fake.handle(
                self.command, url.path, query, self._body(), self.headers
            )
            data = document if isinstance(document, bytes) else json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer  # noqa: N815

    with _Server(str(socket), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
