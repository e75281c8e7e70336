"""The package pool: Debian packages that are downloaded once.

It records what apt downloads through it and replays it when the archive is unreachable. apt checks
Debian's signatures as always. apt-cacher-ng (3.7.4) was tried instead: without a network it
responds 503 for a package list that it has, unless its offline mode is switched on by hand; it
keeps a copy per mirror; and it exists for Debian only, while controllers run on macOS and Windows.
"""
