"""Whether an order may go on, and what becomes of requests about it. Imports the standard library only."""
