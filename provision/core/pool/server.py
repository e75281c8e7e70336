"""The pool as an HTTP proxy for apt (``Acquire::http::Proxy``), on the loopback interface only."""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from provision.core.pool.pool import Pool, PoolError
from provision.core.pool.responses import modified_since, response_headers


@contextlib.contextmanager
def serving(pool: Pool) -> Iterator[str]:
    """Serve the pool while the body runs; yields the proxy's URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            try:
                path = pool.read(self.path)
            except PoolError as error:
                self.send_response(error.status, str(error).replace("\n", " "))
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if not modified_since(path, self.headers.get("If-Modified-Since", "")):
                self.send_response(304)
                self.end_headers()
                return
            with path.open("rb") as file:
                self.send_response(200)
                for name, value in response_headers(path).items():
                    self.send_header(name, value)
                self.end_headers()
                shutil.copyfileobj(file, self.wfile, 1 << 20)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
