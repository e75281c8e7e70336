"""Look for traces of a drill on the machines that a real fault would not leave."""

from __future__ import annotations

import re

from provision.drills.drill import Exercise
from provision.engine.fleet import Fleet

SHORTEST = 12
"""Characters of a line of a break step that is looked for; shorter ones occur by chance."""

FOLDERS = "/etc /home /opt /root /srv /tmp /usr/local /var/backups /var/log /var/mail /var/tmp"
PRIVATE = "/tmp /var/tmp /root /home"
"""Where a fault creates no files."""

HEREDOC = re.compile(r"<<-?\s*['\"]?(\w+)")


def search(folders: str = FOLDERS, private: str = PRIVATE) -> str:
    """A script that prints files and journal lines with one of the texts on its stdin.

    The lab's own programs contain commands that a fault may use as well.

    Its first argument is a time, in seconds since 1970: before the fault was caused.
    """
    return f"""
patterns=$(cat)
{{
    grep -rlsIF -e "$patterns" --exclude-dir=lab-mysql --exclude-dir=foobar-lab -- {folders}
    journalctl --no-pager --quiet --output=cat --since="@$1" | grep -F -e "$patterns" |
        sed 's/^/journal: /'
    find {private} -xdev -type f -newermt "@$1"
}} 2>/dev/null | head -50
exit 0
"""


def patterns(exercise: Exercise) -> list[str]:
    """What must not be found: the drill's id, and the lines of its scripts.

    The content of a file that a script writes belongs to the fault.
    """
    commands = [line for step in exercise.steps for line in commands_of(step.run)]
    return [exercise.id, *dict.fromkeys(line for line in commands if len(line) >= SHORTEST)]


def commands_of(script: str) -> list[str]:
    """The lines of a shell script without those of its here-documents."""
    lines, end = [], ""
    for line in map(str.strip, script.splitlines()):
        if end:
            end = "" if line == end else end
            continue
        lines.append(line)
        if found := HEREDOC.search(line):
            end = found[1]
    return lines


def find_traces(fleet: Fleet, exercise: Exercise, started: float) -> dict[str, list[str]]:
    """By machine, files and journal lines that mention the drill, and new files in home folders.

    Args:
        started: before the fault was caused, in seconds since 1970.
    """
    text = "\n".join(patterns(exercise))
    found = fleet.each(
        lambda host: host.run("sh", "-c", search(), "sh", f"{started:.0f}", input=text).stdout
    )
    return {name: output.splitlines() for name, output in found.items() if output.strip()}
