"""The restore drill: a service loses its database and comes back from a backup, beside newer topics and newer peers."""
