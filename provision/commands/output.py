"""Standard output and error that never abort an operation.

A reader may close the pipe (``| head``), the disk may be full, the terminal may be gone. A command
that has begun to change machines must still finish or roll back, so an error of writing is
remembered and the rest of the output is discarded. A closed pipe means that the reader has enough
and leaves the exit status as it is; any other lost output makes a success a failure.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import signal
import sys
from typing import Any, TextIO

from provision.core.exit_status import ExitStatus

READER_GONE = (errno.EPIPE, errno.ECONNRESET, errno.ESHUTDOWN)


class TolerantOutput(io.RawIOBase):
    """Passes bytes on until an error occurs, then discards them.

    Args:
        raw: the unbuffered stream; None when the descriptor was closed before the command started.
    """

    def __init__(self, raw: Any, descriptor: int) -> None:
        super().__init__()
        self._raw = raw
        self._descriptor = descriptor
        self.error: OSError | None = None

    def writable(self) -> bool:
        """Whether it accepts bytes: always."""
        return True

    def fileno(self) -> int:
        """The descriptor, which child processes inherit."""
        return self._descriptor

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        with contextlib.suppress(OSError, ValueError):
            return self._raw is not None and bool(self._raw.isatty())
        return False

    def write(self, data: Any, /) -> int:
        """Write all bytes, or discard them; returns their number."""
        view = memoryview(data).cast("B")
        position = 0
        while self.error is None and position < len(view):
            try:
                if self._raw is None:
                    raise OSError(errno.EBADF, os.strerror(errno.EBADF))
                written = self._raw.write(view[position:])
                if written is None:  # another program has made the descriptor non-blocking
                    select.select([], [self._descriptor], [], 1.0)
                position += written or 0
            except (OSError, ValueError) as error:
                self.error = error if isinstance(error, OSError) else OSError(str(error))
        return len(view)


_outputs: dict[str, TolerantOutput] = {}


def install() -> None:
    """Make ``sys.stdout`` and ``sys.stderr`` tolerant, and open descriptors that are closed.

    A free descriptor 0, 1 or 2 would be given to the next file or connection that is opened.
    """
    with contextlib.suppress(AttributeError, ValueError):  # Windows; not the main thread
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # see setup/virtual_environment.py
    closed = _open_standard_descriptors()
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115, PTH123
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream: TextIO | None = getattr(sys, name)
        if stream is None or descriptor in closed:
            _replace(name, None, descriptor, None)
        elif stream is getattr(sys, f"__{name}__") and name not in _outputs:
            with contextlib.suppress(AttributeError, ValueError, OSError):
                stream.flush()
                buffer = stream.buffer  # the raw stream itself with PYTHONUNBUFFERED
                _replace(name, getattr(buffer, "raw", buffer), stream.fileno(), stream)


def _open_standard_descriptors() -> set[int]:
    """Open the null device for standard descriptors that are closed; returns their numbers."""
    closed = set()
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            closed.add(os.open(os.devnull, os.O_RDWR))  # the lowest free number: this one
    return closed


def _replace(name: str, raw: Any, descriptor: int, stream: TextIO | None) -> None:
    _outputs[name] = output = TolerantOutput(raw, descriptor)
    terminal = output.isatty()
    text = io.TextIOWrapper(
        io.BufferedWriter(output),
        encoding=stream.encoding if stream is not None else "utf-8",
        errors="replace",  # print ? for characters that the encoding lacks
        line_buffering=terminal or name == "stderr" or getattr(stream, "write_through", False),
    )
    setattr(sys, name, text)


def reader_is_gone() -> bool:
    """Whether standard output leads nowhere any more, so that a live display can stop."""
    flush()
    return "stdout" in _outputs and _outputs["stdout"].error is not None


def flush() -> None:
    """Write what is buffered."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with contextlib.suppress(OSError, ValueError):
                stream.flush()


def final_status(status: int = ExitStatus.SUCCESS) -> int:
    """Write what is buffered, and say what was lost; returns the exit status of the command.

    Args:
        status: of the command without regard to its output.
    """
    flush()
    error = _outputs["stdout"].error if "stdout" in _outputs else None
    if error is None or error.errno in READER_GONE:
        return status
    print(f"error: the output cannot be written: {error.strerror or error}", file=sys.stderr)
    return status or ExitStatus.FAILED
