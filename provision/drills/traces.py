"""Look for traces of a drill on the machines that a real fault would not leave."""

from __future__ import annotations

from provision.drills.drill import Exercise
from provision.engine.fleet import Fleet

SHORTEST = 12
"""Characters of a line of a break step that is looked for; shorter ones occur by chance."""

FOLDERS = "/etc /home /opt /root /run /srv /tmp /usr/local /var/backups /var/log /var/mail /var/tmp"

SEARCH = f"""
patterns=$(cat)
{{
    grep -rlsIF -e "$patterns" --exclude-dir=systemd --exclude-dir=lab-mysql \\
        --exclude-dir=credentials -- {FOLDERS}
    journalctl --no-pager --quiet --output=cat --since="@$1" | grep -F -e "$patterns" |
        sed 's/^/journal: /'
    find /tmp /var/tmp /root /home -xdev -type f -newermt "@$1" 2>/dev/null
}} | head -50
exit 0
"""


def patterns(exercise: Exercise) -> list[str]:
    """What must not be found: the drill's id, and the lines of its scripts."""
    lines = [line.strip() for step in exercise.steps for line in step.run.splitlines()]
    return [exercise.id, *dict.fromkeys(line for line in lines if len(line) >= SHORTEST)]


def find_traces(fleet: Fleet, exercise: Exercise, started: float) -> dict[str, list[str]]:
    """By machine, files and journal lines that mention the drill, and new files in home folders.

    Args:
        started: before the fault was caused, in seconds since 1970.
    """
    text = "\n".join(patterns(exercise))
    found = fleet.each(
        lambda host: host.run("sh", "-c", SEARCH, "sh", f"{started:.0f}", input=text).stdout
    )
    return {name: output.splitlines() for name, output in found.items() if output.strip()}
