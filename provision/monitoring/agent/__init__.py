"""Programs of monitoring that run on machines; Python's standard library only."""
