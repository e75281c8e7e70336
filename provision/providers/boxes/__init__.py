"""Boxes of our own: virtual disks for Vagrant, from the same package list as the containers."""
