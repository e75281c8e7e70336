"""Read files of a lab; errors for files that cannot be read or written, with a useful command."""

from __future__ import annotations

import errno
import os
import shlex
import stat
from pathlib import Path

from provision.core import platform as controller
from provision.core.errors import LabError, UsageError
from provision.core.suggestions import similar_path


def read_text(path: Path) -> str | None:
    """A file's text, with replacement characters for bytes that are not UTF-8; None if absent.

    Raises:
        LabError: when the file cannot be read.
    """
    content = _read(path)
    return None if content is None else content[0]


def read_private(path: Path) -> str | None:
    """The text of a file that only its owner may access; None if absent.

    Raises:
        LabError: when the file cannot be read, or when its group or others have access.
    """
    content = _read(path)
    if content is None:
        return None
    text, mode = content
    require_private(path, mode)
    return text


def require_private(path: Path, mode: int) -> None:
    """Refuse a file or folder to which its group or others have access.

    Raises:
        LabError: when they do; the hint is the command that closes it.
    """
    if controller.is_open_to_others(mode):
        expected = "700" if path.is_dir() else "600"
        raise LabError(
            f"{path} is a secret that other users can access (its mode is {mode:04o})",
            f"chmod {expected} {shlex.quote(str(path))}",
        )


def cannot_read(path: Path, error: OSError) -> LabError:
    """The error for a file that exists but cannot be read."""
    return LabError(f"{path} cannot be read: {error.strerror or error}", _hint(path, error))


def unreadable(what: str, path: Path, error: OSError | UnicodeDecodeError, hint: str) -> UsageError:
    """The error for a file that the user named.

    Args:
        what: it is, such as ``the course friday.yml``.
    """
    reason = getattr(error, "strerror", "") or error
    return UsageError(f"{what} cannot be read: {reason}{similar_path(path)}", hint)


def cannot_write(path: Path, error: OSError) -> LabError:
    """The error for a file that cannot be created or replaced."""
    return LabError(f"{path} cannot be written: {error.strerror or error}", _hint(path, error))


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def disk_error(error: OSError) -> LabError | None:
    """The error for a disk of this computer that is full or read-only; None for another cause."""
    if error.errno not in FULL:
        return None
    path = Path(os.fsdecode(error.filename)) if error.filename else None
    what = f"{path} cannot be written" if path else "a file of this computer cannot be written"
    hint = controller.free_space_command(path.parent if path else None)
    return LabError(f"{what}: {error.strerror}", hint)


def _read(path: Path) -> tuple[str, int] | None:
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            return file.read().decode("utf-8", errors="replace"), mode
    except FileNotFoundError:
        return None
    except OSError as error:
        raise cannot_read(path, error) from None


def _hint(path: Path, error: OSError) -> str:
    if isinstance(error, PermissionError):
        folder = next((p for p in (path, *path.parents) if p.name == ".lab"), path.parent)
        return controller.take_ownership_command(folder)
    return controller.inspect_folder_command(path.parent)
