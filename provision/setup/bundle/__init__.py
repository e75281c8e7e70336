"""A bundle: one file with everything that labs need, for computers without a network.

Modules of this package import the standard library only, because a computer verifies a bundle
before it installs anything from it.

The format: a ZIP archive without compression (`archive.py`), which Python runs. Its first entries
are

- ``manifest.json``: what the bundle is for; size and SHA-256 of every other entry, in order;
- ``manifest.sig``: the Ed25519 signature of these bytes, in hexadecimal, by the manifest's key.

All bytes of the archive follow from names and contents of its entries, so that nothing in it can
be altered, added, moved or left out unnoticed. The other entries:

- ``__main__.py``, ``provision/…``: what ``python3 FILE`` runs (`start.py`);
- ``project.tar.gz``: the project's files; ``project.bundle``: its history as a Git bundle;
- ``wheels/*.whl``: Python packages of the lock file, and pip;
- ``hosts/RELEASE/ARCH/``: a flat repository of Debian packages for hosts; ``InRelease`` is signed
  by the key of the bundle, and ``key.asc`` is that key for apt;
- ``pool/…``: files of the package pool (`core/pool/store.py`), from which machines install;
- ``sets/ARCH/NAME.json``: which of them each image and layer was installed from;
- ``images/ARCH.tar.zst``: images and layers of containers, unpacked as root with GNU tar and zstd;
- ``boxes/ARCH/PROVIDER/*.box``: boxes for Vagrant, with the packages of the roles.
"""
