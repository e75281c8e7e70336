"""Write the JSON Schema files of all commands: .venv/bin/python -m scripts.schemas.

Run it after a change of provision/commands/results/; a unit test compares the files.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from provision.commands.results.schema import document
from provision.core.lab import ROOT

FOLDER = ROOT / "schemas"


def schemas() -> dict[str, str]:
    """The content of each file by its name."""
    from tasks import namespace  # the tasks declare what they print

    files: dict[str, Any] = {"error.json": document("error", None)}
    for name in namespace.task_names:
        task = namespace[name]
        if task.result is not None:
            files[f"{task.kind}.json"] = document(task.kind, task.result)
    return {name: json.dumps(content, indent=2) + "\n" for name, content in files.items()}


def command_schemas() -> list[Path]:
    """The files of commands; ``*.schema.json`` are written by hand."""
    return [path for path in FOLDER.glob("*.json") if not path.name.endswith(".schema.json")]


def main() -> None:
    """Write all files, and remove those of commands that no longer exist."""
    FOLDER.mkdir(exist_ok=True)
    written = schemas()
    for name, text in written.items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    for path in command_schemas():
        if path.name not in written:
            path.unlink()


if __name__ == "__main__":
    main()
