"""A manifest for the tests of bundles."""

from __future__ import annotations

import shutil

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from provision.core.lab import ROOT
from provision.setup.bundle.manifest import BundleManifest

needs_git = pytest.mark.skipif(
    not (ROOT / ".git").exists() or shutil.which("git") is None,
    reason="not a Git checkout (a project that was unpacked from a bundle)",
)

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()

SAMPLE = BundleManifest(
    version=1,
    date="2026-11-30T08:00:00+00:00",
    key=PUBLIC.hex(),
    commit="0" * 40,
    providers=("lxc",),
    topologies=("simple",),
    architectures=("amd64",),
    releases=("trixie",),
    platforms=("linux-amd64",),
    tests=False,
    learners=False,
    locks={"requirements.lock": "1" * 64},
    entries={},
)
