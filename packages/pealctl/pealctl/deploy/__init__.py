"""Takes Peal to AWS and away again: `pealctl deploy --stage dev`. Never ships.

What exists on AWS is the truth: nothing that a run has to know is kept on the machine it ran on. Every step may be
repeated, and a run that was cut off is continued by the next.
"""
