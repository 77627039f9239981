"""`make demo`: the whole system on this machine, fed with a day's orders, good and bad, and asked to account for them."""
