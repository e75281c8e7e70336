"""Vagrant boxes, built from the same package list as the containers."""
