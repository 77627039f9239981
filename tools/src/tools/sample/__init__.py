"""A made-up retailer to try the system with: goods, places, freight tables and orders of six channels. Same seed, same data."""
