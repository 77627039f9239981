"""Every SQL statement of audit. A batch is one statement: arrays in, rows out."""
