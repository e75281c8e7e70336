"""Run Python on an emulation of Windows: python emulate_windows.py SCRIPT [ARGUMENT…].

Libraries, which support Windows themselves, are imported before the emulation starts. Emulated:
modules and functions that Windows lacks are missing; files have Windows' modes, line ends and code
page; folders cannot be opened; signal 0 is not available; no program is started; /proc, /sys, /etc
and /var do not exist. Not emulated: paths with backslashes, files that cannot be replaced while
they are open, access lists, sockets and consoles.
"""

from __future__ import annotations

import asyncio  # noqa: F401  (all of these: before the emulation starts)
import builtins
import concurrent.futures.thread  # noqa: F401
import ctypes  # noqa: F401
import getpass  # noqa: F401
import http.server  # noqa: F401
import importlib
import io
import multiprocessing  # noqa: F401
import os
import pkgutil
import runpy
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tarfile
import tempfile
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

LIBRARIES = (
    "cryptography.hazmat.primitives.asymmetric.ed25519",
    "cryptography.hazmat.primitives.asymmetric.ec",
    "cryptography.x509",
    "fabric",
    "filelock",
    "invoke",
    "invoke.main",
    "jinja2",
    "paramiko",
    "requests",
    "rich.console",
    "vagrant",
    "yaml",
)
PACKAGES = ("invoke", "rich", "jinja2", "paramiko")
"""They import their modules lazily; so all of them are imported first."""

MODULES = (
    "crypt", "fcntl", "grp", "nis", "posix", "pty", "pwd", "readline", "resource", "spwd",
    "syslog", "termios", "tty",
)  # fmt: skip
IN_OS = (
    "chown", "chroot", "confstr", "ctermid", "fchdir", "fchmod", "fchown", "fork", "forkpty",
    "getegid", "geteuid", "getgid", "getgroups", "getloadavg", "getpgid", "getpgrp",
    "getpriority", "getresuid", "getsid", "getuid", "initgroups", "killpg", "lchown", "lockf",
    "major", "makedev", "mkfifo", "mknod", "nice", "openpty", "pathconf", "pipe2", "posix_spawn",
    "pread", "pwrite", "sched_getaffinity", "sendfile", "setegid", "seteuid", "setgid",
    "setpgid", "setsid", "setuid", "statvfs", "sync", "sysconf", "tcgetpgrp", "ttyname", "uname",
    "wait3", "wait4", "O_CLOEXEC", "O_DIRECTORY", "O_DSYNC", "O_NOCTTY", "O_NOFOLLOW",
    "O_NONBLOCK", "O_SYNC",
)  # fmt: skip
IN_SIGNAL = (
    "SIGALRM", "SIGCHLD", "SIGCONT", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGSTOP",
    "SIGTSTP", "SIGUSR1", "SIGUSR2", "SIGWINCH", "alarm", "pause", "pthread_kill",
    "pthread_sigmask", "setitimer", "sigwait",
)  # fmt: skip
ABSENT = ("/proc", "/sys", "/etc", "/var")
CODE_PAGE = "cp1252"
FILE_MODE, FOLDER_MODE = 0o666, 0o777
"""The modes of files and folders, regardless of how they were created."""

BINARY = 1 << 40
MISSING = "EMULATED_PROGRAMS_ARE_MISSING"
"""An environment variable: starting a program fails as if it were not installed."""


def emulate() -> None:
    """Start the emulation."""
    room = shutil.disk_usage("/")
    _libraries()
    sys.modules["msvcrt"] = _msvcrt()
    for name in MODULES:
        sys.modules[name] = None  # type: ignore[assignment]
    for module, names in ((os, IN_OS), (signal, IN_SIGNAL), (socket, ("AF_UNIX",))):
        for name in names:
            if hasattr(module, name):
                delattr(module, name)
    tarfile.pwd = tarfile.grp = None  # type: ignore[attr-defined]
    for name in ("LANG", "LC_ALL", "LOGNAME", "USER"):
        os.environ.pop(name, None)
    os.environ["USERNAME"] = "Administrator"
    os.environ["PROCESSOR_ARCHITECTURE"] = "AMD64"
    _files()
    _processes(room)
    sys.platform = "win32"
    warnings.filterwarnings("error", category=EncodingWarning, module=r"(provision|tasks)\b")
    for stream in (sys.stdout, sys.stderr):
        assert isinstance(stream, io.TextIOWrapper)
        stream.reconfigure(encoding=CODE_PAGE, errors="strict")  # as for a pipe on Windows


def _msvcrt() -> types.ModuleType:
    """The module msvcrt, with its locks only (LockFile of Windows' fileapi.h)."""
    fcntl = importlib.import_module("fcntl")
    module = types.ModuleType("msvcrt")

    def locking(descriptor: int, mode: int, length: int) -> None:
        assert (mode, length) == (2, 1)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    vars(module).update(LK_NBLCK=2, locking=locking)
    return module


def _libraries() -> None:
    for name in LIBRARIES:
        importlib.import_module(name)
    # filelock does not detect the emulation, and continues to use this system's os.
    real = types.ModuleType("os")
    real.__dict__.update(os.__dict__)
    for name, module in list(sys.modules.items()):
        if name.startswith("filelock") and hasattr(module, "os"):
            vars(module)["os"] = real
    for name in PACKAGES:
        package = importlib.import_module(name)
        for part in pkgutil.walk_packages(package.__path__, f"{name}."):
            leaf = part.name.rpartition(".")[2]
            if leaf.startswith(("_win", "win", "__main__")) or ".vendor." in part.name:
                continue
            try:
                importlib.import_module(part.name)
            except ImportError:
                continue  # a module for another system, or for a library that is not installed


def _files() -> None:
    def refuse_absent(path: Any) -> None:
        if isinstance(path, str | os.PathLike):
            text = os.fspath(path)
            if isinstance(text, str) and f"{text}/".startswith(tuple(f"{p}/" for p in ABSENT)):
                raise FileNotFoundError(2, "The system cannot find the path specified", text)

    def checked(original: Callable[..., Any]) -> Callable[..., Any]:
        def called(path: Any = ".", *args: Any, **kwargs: Any) -> Any:
            refuse_absent(path)
            return original(path, *args, **kwargs)

        return called

    class Status:
        """A file's status with the modes of Windows."""

        def __init__(self, original: os.stat_result) -> None:
            self.original = original

        def __getattr__(self, name: str) -> Any:
            value = getattr(self.original, name)
            if name == "st_mode":
                return stat.S_IFMT(value) | (FOLDER_MODE if stat.S_ISDIR(value) else FILE_MODE)
            return 0 if name in ("st_uid", "st_gid") else value

    stat_, lstat, fstat, open_ = os.stat, os.lstat, os.fstat, os.open

    def opened(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
        refuse_absent(path)
        if os.path.isdir(path):  # noqa: PTH112
            raise PermissionError(13, "Permission denied", os.fspath(path))
        if flags & (os.O_WRONLY | os.O_RDWR) and not flags & BINARY:
            raise AssertionError(f"{path} is opened for text: Windows would change its line ends")
        return open_(path, flags & ~BINARY, *args, **kwargs)

    text_of = io.open

    def text(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        refuse_absent(file)
        if "b" not in mode and set(mode) & set("wax+"):
            kwargs |= dict(zip(("buffering", "encoding", "errors", "newline"), args, strict=False))
            args = ()
            kwargs["newline"] = "\r\n" if kwargs.get("newline") is None else kwargs["newline"]
        return text_of(file, mode, *args, **kwargs)

    def no_link(*_: Any, **__: Any) -> None:
        raise OSError(22, "A required privilege is not held by the client")

    os.O_BINARY = BINARY  # type: ignore[attr-defined]
    tempfile._bin_openflags |= BINARY  # type: ignore[attr-defined]
    os.open = lambda path, flags, *a, **k: opened(path, flags, *a, **k)
    os.stat = checked(lambda p, **k: Status(stat_(p, **k)))
    os.lstat = checked(lambda p, **k: Status(lstat(p, **k)))
    os.fstat = lambda number: Status(fstat(number))  # type: ignore[assignment,return-value]
    os.scandir, os.listdir = checked(os.scandir), checked(os.listdir)
    os.symlink = os.link = no_link
    builtins.open = io.open = text
    tempfile._os.open = os.open  # type: ignore[attr-defined]


def _processes(room: Any) -> None:
    def no_program(*args: Any, **_: Any) -> None:
        if os.environ.get(MISSING):
            raise FileNotFoundError(2, "The system cannot find the file specified")
        raise AssertionError(f"a program would be started: {args[:1]}")

    def no_kill(pid: int, number: int) -> None:
        raise AssertionError(f"os.kill({pid}, {number}) would end or interrupt a process")

    shutil.disk_usage = lambda path: room
    subprocess.Popen = no_program  # type: ignore[assignment,misc]
    os.system = os.popen = no_program  # type: ignore[assignment]
    os.kill = no_kill
    shutil.which = lambda *_, **__: None


if __name__ == "__main__":
    del sys.argv[0]
    sys.path[0] = str(Path(__file__).parents[3])
    emulate()
    runpy.run_path(sys.argv[0], run_name="__main__")
