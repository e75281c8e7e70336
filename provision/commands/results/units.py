"""Units and formats of values in JSON; the texts are descriptions in the JSON Schema files."""

from __future__ import annotations

from typing import Annotated

Seconds = Annotated[float, "seconds"]
Bytes = Annotated[int, "bytes"]
Count = Annotated[int, "a count"]
Time = Annotated[str, "RFC 3339, UTC; empty when unknown"]
Next = Annotated[str, "the next commands, one per line, explained behind #; empty for none"]
Gtids = Annotated[str, "a GTID set; empty for none"]
PerSecond = Annotated[float | None, "per second; null when unknown"]
