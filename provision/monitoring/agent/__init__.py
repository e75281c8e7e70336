"""Small programs of the monitoring stage that run on the machines; Python's standard library only.

The roles `exporters` and `monitoring` put them there. `queries` is also what the terminal asks.
"""
