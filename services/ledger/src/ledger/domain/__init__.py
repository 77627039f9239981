"""What the ledger decides: postings, periods, numbers, the chain. Imports the standard library only."""
