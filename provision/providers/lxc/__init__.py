"""The lxc provider: machines are LXC system containers, built from Debian packages.

On systems without LXC, the provider incus uses some of these modules, so none is imported here.
"""
