"""On every machine with exporters, by lab-facts.timer: what no exporter knows, as metrics.

When certificates end and when the last backup was made; node exporter's textfile collector reads it
(its documentation, "Textfile Collector"). Arguments: the file to write, then ``certificate=GLOB``
and ``backups=FOLDER`` as often as needed.
"""

from __future__ import annotations

import glob
import os
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime

END = "lab_certificate_not_after_seconds"
LAST = "lab_backup_last_timestamp_seconds"
COUNT = "lab_backup_files"
HELP = {
    END: "When a certificate ends, in seconds since 1970.",
    LAST: "When the newest backup was made; before the first one, when backups began to be due.",
    COUNT: "How many backups are kept.",
}


def not_after(text: str) -> float:
    """Seconds since 1970, from ``openssl x509 -noout -enddate``. A pure function.

    Raises:
        ValueError: when it says something else.
    """
    word, _, moment = text.strip().partition("=")
    if word != "notAfter":
        raise ValueError(f"not a date of openssl: {text!r}")
    moment = " ".join(moment.removesuffix("GMT").split())
    return datetime.strptime(moment, "%b %d %H:%M:%S %Y").replace(tzinfo=UTC).timestamp()


def certificates(patterns: Iterable[str]) -> dict[str, float]:
    """When the first certificate of each file ends; files that hold none are left out."""
    found = {}
    for path in sorted({path for pattern in patterns for path in glob.glob(pattern)}):
        argv = ["openssl", "x509", "-noout", "-enddate", "-in", path]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=10, check=False)
        if done.returncode == 0:
            found[path] = not_after(done.stdout)
    return found


def backups(folder: str) -> tuple[int, float]:
    """How many backups a folder holds, and the time of the newest (else the folder's own)."""
    try:
        times = [
            entry.stat().st_mtime
            for entry in os.scandir(folder)
            if entry.is_file() and entry.name.endswith(".tar")
        ]
        return len(times), max(times) if times else os.stat(folder).st_mtime
    except OSError:
        return 0, 0.0


def metrics(ends: dict[str, float], kept: dict[str, tuple[int, float]]) -> str:
    """The file's text (Prometheus' documentation, "Exposition formats"). A pure function."""
    values: dict[str, list[tuple[str, str, float]]] = {END: [], LAST: [], COUNT: []}
    for path, end in ends.items():
        values[END].append(("path", path, end))
    for folder, (count, last) in kept.items():
        values[COUNT].append(("folder", folder, count))
        if last:
            values[LAST].append(("folder", folder, last))
    lines = []
    for name, samples in values.items():
        if samples:
            lines += [f"# HELP {name} {HELP[name]}", f"# TYPE {name} gauge"]
        for label, text, value in samples:
            escaped = text.replace("\\", "\\\\").replace('"', '\\"')
            lines.append(f'{name}{{{label}="{escaped}"}} {value:.0f}')
    return "\n".join([*lines, ""])


def main(arguments: list[str]) -> None:
    """Look, and write the file in one step."""
    target, *options = arguments
    pairs = [option.partition("=") for option in options]
    ends = certificates(value for key, _, value in pairs if key == "certificate")
    kept = {value: backups(value) for key, _, value in pairs if key == "backups"}
    temporary = f"{target}.new"
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(metrics(ends, kept))
    os.chmod(temporary, 0o644)
    os.replace(temporary, target)


if __name__ == "__main__":
    main(sys.argv[1:])
