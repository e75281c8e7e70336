"""Create bundles, and compare them with what has been published since."""
