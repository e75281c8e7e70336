"""Write certificate expiry, backup age and saved errant transactions as metrics (lab-facts.timer).

Node exporter's textfile collector reads the file (its documentation, "Textfile Collector").
Arguments: the file to write, then any number of ``certificate=GLOB``, ``backups=FOLDER`` and
``errant=FOLDER``.
"""

from __future__ import annotations

import glob
import os
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime

NOT_AFTER = "lab_certificate_not_after_seconds"
LAST_BACKUP = "lab_backup_last_timestamp_seconds"
BACKUPS = "lab_backup_files"
ERRANT = "lab_errant_transaction_files"
HELP = {
    NOT_AFTER: "Expiry of a certificate, Unix time.",
    LAST_BACKUP: "Time of the newest backup; without one, creation of the backup folder.",
    BACKUPS: "Number of backups.",
    ERRANT: "Files of errant transactions that the machine saved before it rejoined.",
}


def not_after(text: str) -> float:
    """Parse the output of ``openssl x509 -noout -enddate`` to Unix time.

    Raises:
        ValueError: for any other output.
    """
    key, _, date = text.strip().partition("=")
    if key != "notAfter":
        raise ValueError(f"no expiry date of openssl: {text!r}")
    date = " ".join(date.removesuffix("GMT").split())
    return datetime.strptime(date, "%b %d %H:%M:%S %Y").replace(tzinfo=UTC).timestamp()


def certificates(patterns: Iterable[str]) -> dict[str, float]:
    """Expiry of the first certificate of each file; files without one are left out."""
    expiry = {}
    for path in sorted({path for pattern in patterns for path in glob.glob(pattern)}):
        argv = ["openssl", "x509", "-noout", "-enddate", "-in", path]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=10, check=False)
        if done.returncode == 0:
            expiry[path] = not_after(done.stdout)
    return expiry


def backups(folder: str) -> tuple[int, float]:
    """Number of backups in a folder, and the time of the newest (else the folder's own)."""
    try:
        times = [
            entry.stat().st_mtime
            for entry in os.scandir(folder)
            if entry.is_file() and entry.name.endswith(".tar")
        ]
        return len(times), max(times) if times else os.stat(folder).st_mtime
    except OSError:
        return 0, 0.0


def errant(folder: str) -> int:
    """Number of files of errant transactions."""
    try:
        return sum(name.endswith(".sql.gz") for name in os.listdir(folder))
    except OSError:
        return 0


def metrics(
    expiry: dict[str, float],
    kept: dict[str, tuple[int, float]],
    saved: dict[str, int] | None = None,
) -> str:
    """The metrics as text (Prometheus documentation, "Exposition formats")."""
    values: dict[str, list[tuple[str, str, float]]] = {name: [] for name in HELP}
    for folder, count in (saved or {}).items():
        values[ERRANT].append(("folder", folder, count))
    for path, end in expiry.items():
        values[NOT_AFTER].append(("path", path, end))
    for folder, (count, last) in kept.items():
        values[BACKUPS].append(("folder", folder, count))
        if last:
            values[LAST_BACKUP].append(("folder", folder, last))
    lines = []
    for name, samples in values.items():
        if samples:
            lines += [f"# HELP {name} {HELP[name]}", f"# TYPE {name} gauge"]
        for label, text, value in samples:
            escaped = text.replace("\\", "\\\\").replace('"', '\\"')
            lines.append(f'{name}{{{label}="{escaped}"}} {value:.0f}')
    return "\n".join([*lines, ""])


def main(arguments: list[str]) -> None:
    """Collect the metrics and replace the file atomically."""
    target, *options = arguments
    pairs = [option.partition("=") for option in options]
    expiry = certificates(value for key, _, value in pairs if key == "certificate")
    kept = {value: backups(value) for key, _, value in pairs if key == "backups"}
    saved = {value: errant(value) for key, _, value in pairs if key == "errant"}
    temporary = f"{target}.new"
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(metrics(expiry, kept, saved))
    os.chmod(temporary, 0o644)
    os.replace(temporary, target)


if __name__ == "__main__":
    main(sys.argv[1:])
