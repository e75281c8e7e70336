"""A real SSH server on loopback, as one machine of a lab: a login gives a shell on a terminal."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import signal
import socket
import struct
import subprocess
import termios
import threading
from pathlib import Path
from typing import Any

import paramiko
from paramiko.common import (
    AUTH_FAILED,
    AUTH_SUCCESSFUL,
    OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED,
    OPEN_SUCCEEDED,
)

from provision.core.endpoint import Endpoint


class _Login(paramiko.ServerInterface):
    def __init__(self, key: str) -> None:
        self._key = key
        self.size = (80, 24)
        self.shell = threading.Event()
        self.pty: int | None = None

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        ok = username == "lab" and key.get_base64() == self._key
        return AUTH_SUCCESSFUL if ok else AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        if kind == "session":
            return OPEN_SUCCEEDED
        return OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED

    def check_channel_pty_request(
        self, channel: Any, term: Any, width: int, height: int, *_: Any
    ) -> bool:
        self.size = (width, height)
        return True

    def check_channel_shell_request(self, channel: Any) -> bool:
        self.shell.set()
        return True

    def check_channel_window_change_request(
        self, channel: Any, width: int, height: int, *_: Any
    ) -> bool:
        self.size = (width, height)
        if self.pty is not None:
            set_size(self.pty, self.size)
        return True


def set_size(descriptor: int, size: tuple[int, int]) -> None:
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))


class FakeMachine:
    """One machine. Close it at the end.

    Args:
        folder: of its keys, and the home of its shells.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        folder.mkdir(parents=True, exist_ok=True)
        self.key = folder / "key"
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key)], check=True
        )
        host = folder / "host"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(host)], check=True)
        self.host_key = " ".join(host.with_suffix(".pub").read_text().split()[:2])
        self._host = paramiko.Ed25519Key.from_private_key_file(str(host))
        self._authorized = self.key.with_suffix(".pub").read_text().split()[1]
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.logins = 0
        self.shells: list[subprocess.Popen[bytes]] = []
        self._transports: list[paramiko.Transport] = []
        self._closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def endpoint(self) -> Endpoint:
        """How the board reaches it."""
        return Endpoint("127.0.0.1", self.port, "lab", self.key, self.host_key)

    def drop(self) -> None:
        """Cut all connections, as a crash does."""
        for transport in self._transports:
            transport.close()

    def close(self) -> None:
        self._closed = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop()
        for shell in self.shells:
            with contextlib.suppress(OSError):
                os.killpg(shell.pid, signal.SIGKILL)
            shell.wait(10)

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        transport = paramiko.Transport(client)
        transport.add_server_key(self._host)
        login = _Login(self._authorized)
        self._transports.append(transport)
        try:
            transport.start_server(server=login)
            channel = transport.accept(20)
            if channel is None or not login.shell.wait(20):
                return
            self.logins += 1
            self._run_shell(channel, login)
        except (paramiko.SSHException, EOFError, OSError):
            pass
        finally:
            transport.close()

    def _run_shell(self, channel: Any, login: _Login) -> None:
        master, slave = pty.openpty()
        login.pty = master
        set_size(master, login.size)
        env = {"HOME": str(self.folder), "PATH": os.environ["PATH"], "TERM": "xterm-256color"}
        env["PS1"] = f"{self.name}$ "
        shell = subprocess.Popen(
            ["setsid", "--ctty", "sh", "-i"],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=self.folder,
            env=env,
            start_new_session=True,
        )
        os.close(slave)
        self.shells.append(shell)

        def type_in() -> None:
            with contextlib.suppress(OSError, EOFError):
                while data := channel.recv(4096):
                    os.write(master, data)

        threading.Thread(target=type_in, daemon=True).start()
        with contextlib.suppress(OSError, EOFError):
            while data := os.read(master, 65536):
                channel.sendall(data)
        channel.close()
        with contextlib.suppress(OSError):
            os.killpg(shell.pid, signal.SIGHUP)
