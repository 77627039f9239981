"""Two releases at once: each service upgraded and rolled back under load, both versions in one consumer group."""
