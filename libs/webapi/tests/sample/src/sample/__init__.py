"""The smallest service: what a real one looks like to `webapi.process`."""
