"""What runs on a machine: sent over SSH at each connection, standard library only, as root.

The modules of this package are never installed. ``host.py`` sends their text through the SSH
channel's stdin to a bare ``python3``, which then responds to requests until the channel closes.
Machines need nothing but Debian's python3 (or python3-minimal).
"""
