"""The lab's block in the hosts file of a workstation."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from provision.core.atomic import atomic_file
from provision.core.errors import LabError
from provision.core.lab import Lab

BEGIN = "# foobar-lab begin"
END = "# foobar-lab end"


def default_path() -> Path:
    """The workstation's hosts file."""
    if os.name == "nt":
        root = os.environ.get("SYSTEMROOT", r"C:\Windows")
        return Path(root) / "System32" / "drivers" / "etc" / "hosts"
    return Path("/etc/hosts")


def host_lines(lab: Lab) -> list[str]:
    """The lines that map the names of the site and of the machines to addresses."""
    domain = lab.topology.domain
    rows = [(str(lab.address), f"{lab.site} {domain}")]
    rows += [(str(m.address), f"{m.name}.{domain}") for m in lab.machines]
    width = max(len(address) for address, _ in rows)
    return [f"{address:<{width}}  {names}" for address, names in rows]


def replace_block(text: str, lines: list[str], lab: str) -> str:
    """The text of a hosts file with its block replaced by these lines, or appended.

    There is one block for all labs, since the site's name can point to one lab at a time.

    Without lines it is removed.

    Raises:
        ValueError: when the markers are not one pair, so that nothing can be replaced safely.
    """
    rows = text.splitlines(keepends=True)
    begins = [i for i, row in enumerate(rows) if row.startswith(BEGIN)]
    ends = [i for i, row in enumerate(rows) if row.strip() == END]
    if (len(begins), len(ends)) not in ((0, 0), (1, 1)) or (begins and ends[0] < begins[0]):
        raise ValueError(f"its lines {BEGIN!r} and {END!r} are not one pair")
    newline = "\r\n" if "\r\n" in text else "\n"
    block = [f"{row}{newline}" for row in (f"{BEGIN} (lab {lab})", *lines, END)] if lines else []
    if begins:
        return "".join([*rows[: begins[0]], *block, *rows[ends[0] + 1 :]])
    if block and rows and not rows[-1].endswith("\n"):
        rows.append(newline)
    return "".join([*rows, *block])


def update(path: Path, lines: list[str], lab: str, retry: str) -> bool:
    """Replace the block atomically, and return whether the file has changed.

    A symbolic link is followed; owner and mode stay.

    Args:
        retry: the command that has the missing permission.

    Raises:
        LabError: when it cannot be read or written, or its markers are damaged.
    """
    path = path.resolve()
    try:
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            text = file.read()
        new = replace_block(text, lines, lab)
        if new == text:
            return False
        status = path.stat()
        owner = (status.st_uid, status.st_gid)
        with atomic_file(path, status.st_mode & 0o7777, owner) as file_:
            file_.write(new.encode(errors="surrogateescape"))
    except ValueError as error:
        raise LabError(f"{path} was not changed: {error}", f"fix it: sudoedit {path}") from None
    except OSError as error:
        what = f"{path} cannot be changed: {error.strerror or error}"
        if isinstance(error, PermissionError):
            raise LabError(f"{what}; nothing was changed", retry) from None
        if error.errno in (errno.EBUSY, errno.EXDEV):
            what += " (it is a mount point)"
        raise LabError(what, "invoke dns.hosts prints the lines: add them with an editor") from None
    return True
