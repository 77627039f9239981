"""Benches: what the system does on this machine, as figures in `.local/bench/<name>.json` and a table."""
