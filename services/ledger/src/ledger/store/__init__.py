"""Every SQL statement of the service: `setup` (chart, templates, periods), `books` (the only writer), `reports` (reads)."""
