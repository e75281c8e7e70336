"""Serve a board: its address, its TLS certificate, one board per lab, until it is stopped."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from provision.board.access import BoardRoom
from provision.board.app import application
from provision.board.board import Board, RunValues
from provision.board.limits import MESSAGE_BYTES
from provision.core import platform as controller
from provision.core.atomic import write_atomically
from provision.core.errors import LabError, UsageError
from provision.core.files import read_text
from provision.core.lab import ROOT
from provision.core.locks import file_lock
from provision.core.pki import CertificateAuthority

if TYPE_CHECKING:
    import uvicorn

PORT = 8090
LOOPBACK = "127.0.0.1"
CERTIFICATE = "board"
"""The name of the certificate's files."""

LOCK, RECORD = "board.lock", "board.json"
"""In a lab's directory: held while a board serves it; the address and pid of that board."""


@dataclass(frozen=True)
class ListenAddress:
    """Where a board listens.

    Args:
        address: one address of this computer.
        certificate: files of the certificate and its key; None on loopback.
    """

    address: IPv4Address | IPv6Address
    port: int
    certificate: tuple[Path, Path] | None = None

    @property
    def host(self) -> str:
        """As in a URL."""
        text = f"[{self.address}]" if self.address.version == 6 else str(self.address)
        return f"{text}:{self.port}"

    @property
    def url(self) -> str:
        """The board's address, without a code."""
        return f"{'https' if self.certificate else 'http'}://{self.host}/"

    @property
    def hosts(self) -> frozenset[str]:
        """The values of the header Host that are accepted."""
        names = {self.host}
        if self.address.is_loopback:
            names.add(f"localhost:{self.port}")
        return frozenset(names)


def parse_address(text: str) -> IPv4Address | IPv6Address:
    """The address of ``--bind``.

    Raises:
        UsageError: when it is none, or means every address.
    """
    try:
        address = ip_address(text)
    except ValueError:
        raise UsageError(f"--bind {text!r} is not an address", "such as 192.168.1.20") from None
    if address.is_unspecified or address.is_multicast:
        raise UsageError(
            f"--bind {text} is no single address",
            "name the one that the class reaches; ip address lists those of this computer",
        )
    return address


def certificate_files(directory: Path, address: IPv4Address | IPv6Address) -> tuple[Path, Path]:
    """The board's certificate, issued by the CA of a lab or a class.

    Raises:
        UsageError: for an IPv6 address.
        LabError: when the CA's files are damaged.
    """
    if not isinstance(address, IPv4Address):
        raise UsageError("the board's certificates are for IPv4 addresses", "bind an IPv4 address")
    authority = CertificateAuthority(directory)
    authority.issue(CERTIFICATE, [address])
    return directory / "certs" / f"{CERTIFICATE}.pem", directory / "secrets" / f"{CERTIFICATE}.key"


def listen(place: ListenAddress) -> socket.socket:
    """A listening socket.

    Raises:
        LabError: when the port is in use, or the address is not of this computer.
    """
    family = socket.AF_INET6 if place.address.version == 6 else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((str(place.address), place.port))
        listener.listen(512)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise LabError(
                f"port {place.port} of {place.address} is in use by another program",
                f"invoke board.serve --port {place.port + 1}",
            ) from None
        if error.errno == errno.EADDRNOTAVAIL:
            raise UsageError(
                f"{place.address} is no address of this computer", "ip address lists them"
            ) from None
        raise LabError(f"{place.host}: {error.strerror}", "choose another --port") from None
    listener.setblocking(False)
    return listener


@contextlib.contextmanager
def only_board(directory: Path, url: str) -> Iterator[None]:
    """Be the only board of a lab.

    Raises:
        LabError: when it has one; the message names its address.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(file_lock(directory / LOCK, timeout=0.2))
        except LabError:
            raise _has_board(directory) from None
        write_atomically(directory / RECORD, json.dumps({"url": url, "pid": os.getpid()}))
        stack.callback((directory / RECORD).unlink, missing_ok=True)
        yield


def _has_board(directory: Path) -> LabError:
    try:
        record = json.loads(read_text(directory / RECORD) or "")
        url, pid = str(record["url"]), int(record["pid"])
    except (ValueError, KeyError, TypeError):
        return LabError(f"lab {directory.name} has a board already", "close it first")
    return LabError(
        f"lab {directory.name} has a board already: {url} (pid {pid})",
        f"open it, or end it: {controller.kill_command(pid)}",
    )


def serve(
    room: BoardRoom,
    place: ListenAddress,
    run_values: RunValues,
    ready: Callable[[], None],
    root: Path = ROOT,
) -> None:
    """Serve until the process is told to stop.

    Args:
        ready: called when the board accepts connections.

    Raises:
        LabError: when the port is in use, or a lab has a board already.
    """
    import uvicorn

    board = Board(room, run_values, root)
    cookie = f"lab-board-{place.port}"
    app = application(board, place.hosts, secure=place.certificate is not None, cookie=cookie)
    with contextlib.ExitStack() as stack:
        for seat in room.seats:
            stack.enter_context(only_board(root / ".lab" / seat.lab, place.url))
        listener = stack.enter_context(contextlib.closing(listen(place)))
        config = uvicorn.Config(
            app,
            ws="websockets-sansio",
            ws_max_size=MESSAGE_BYTES,
            ws_per_message_deflate=False,
            ws_ping_interval=10.0,
            ws_ping_timeout=10.0,
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=2,
            limit_concurrency=2000,
            h11_max_incomplete_event_size=32 * 1024,
            ssl_certfile=str(place.certificate[0]) if place.certificate else None,
            ssl_keyfile=str(place.certificate[1]) if place.certificate else None,
        )
        server = uvicorn.Server(config)
        server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]

        async def run() -> None:
            _end_on_signals(server)
            serving = asyncio.ensure_future(server.serve(sockets=[listener]))
            while not server.started and not serving.done():
                await asyncio.sleep(0.01)
            if server.started:
                ready()
            await serving

        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(run())


def _end_on_signals(server: uvicorn.Server) -> None:
    """End in order: uvicorn itself would raise the signal again before anything is cleaned up."""

    def end() -> None:
        server.should_exit = True

    loop = asyncio.get_running_loop()
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        with contextlib.suppress(NotImplementedError, AttributeError):  # Windows
            loop.add_signal_handler(getattr(signal, name), end)
