"""Bounds of the board: what one browser, one team and the whole class can take."""

from __future__ import annotations

BODY_BYTES = 64 * 1024
"""Of one HTTP request."""

MESSAGE_BYTES = 64 * 1024
"""Of one WebSocket message from a browser."""

SCROLLBACK_BYTES = 256 * 1024
"""Output of a terminal that is kept for a browser that connects again."""

AHEAD_BYTES = 192 * 1024
"""Output that no browser has shown yet; then the machine's program waits, as after Ctrl-S."""

WINDOW_BYTES = 96 * 1024
"""Output on its way to one browser, which acknowledges what it has shown."""

CHUNK_BYTES = 16 * 1024
"""Output in one WebSocket message."""

KEPT_SECONDS = 15 * 60.0
"""For which a terminal without a browser is kept."""

TERMINALS_PER_LAB = 8
CONNECTIONS_PER_TERMINAL = 8
CONNECTIONS_PER_TEAM = 100
"""WebSockets of one team: several people, each with a page and some terminals; or a class of thirty
at the board of one lab."""

CONNECTIONS = 1200
"""WebSockets in all."""

LOGIN_FAILURES = 10
LOGIN_SECONDS = 10.0
"""Wrong codes that one address may send within these seconds: codes have 50 bits."""

ADDRESSES = 2000
"""Addresses whose wrong codes are counted."""

SESSION_SECONDS = 12 * 3600
"""For which a browser that has sent a code may stay away before it needs the code again."""

RECORDING_BYTES = 16 * 1024 * 1024
"""Of one recorded terminal."""

OBSERVE_SECONDS = 0.9
"""Between two looks at a machine."""

JUDGE_SECONDS = 1.0
"""Between two looks at the proofs of a drill."""
