"""A class: many labs on one host, one per team."""
