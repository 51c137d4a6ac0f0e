"""How Amazon API Gateway is known to behave, case by case: each id is one case, each docstring says it in a sentence.

Certainty A is documented by AWS or was run against its SDKs, B was recorded on AWS, C is presumed: those tests run with
`--presumed` only. docs/EMULATOR.md is made from these docstrings.
"""
