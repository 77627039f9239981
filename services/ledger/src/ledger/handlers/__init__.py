"""What the ledger does with events and tasks. Order does not matter here: see domain/account.py."""

from ledger.handlers.facts import FactEvent, facts_of
from ledger.handlers.posting import FOLD, Bookkeeper, Folder

__all__ = ["FOLD", "Bookkeeper", "FactEvent", "Folder", "facts_of"]
