"""The values that commands print with ``--json``, one `TypedDict` per object.

They are the source of the JSON Schema files in ``schemas/`` (`scripts/schemas`). The same thing has
the same name in every command: ``machine``, ``server``, ``sessions``, ``lag_seconds``, ``next``.
"""
