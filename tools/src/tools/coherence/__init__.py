"""Does everything add up? Reads the six databases by read-only roles, and the topics; changes nothing.

`--drained`: nothing is under way, so every equality must hold, across databases too.
`--live`: what must hold in one snapshot of one database at any moment, and age limits for what is under way.

A check finds what is wrong and says it in words with the id to look at; it never repairs.
"""

from tools.coherence.checks import CHECKS
from tools.coherence.model import Check, Finding, Outcome, Sources
from tools.coherence.run import drained, look, run_checks

__all__ = ["CHECKS", "Check", "Finding", "Outcome", "Sources", "drained", "look", "run_checks"]
