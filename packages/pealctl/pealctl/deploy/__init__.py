"""Take Peal to AWS and away again: `pealctl deploy --stage dev`.

Invariants: what exists on AWS is the truth, so a run needs no file that an earlier one left on its machine. Every step
may be repeated, and the next run continues one that was interrupted.
"""
