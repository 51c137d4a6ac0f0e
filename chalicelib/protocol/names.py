"""Names that become part of a table key, and what they may look like.

Invariant: no name contains `#`, which separates the parts of a key; so no name can reach into another's rows.
"""

import re

from chalicelib.errors import Invalid

MAX_NAME_CHARS = 128
# The same as a pattern, also for JSON Schema and other dialects.
NAME = rf"[A-Za-z0-9._~@:|=+-]{{1,{MAX_NAME_CHARS}}}"
_NAME = re.compile(NAME)


def check_name(value: object, field: str) -> str:
    """Return `value` if it is a name that may be part of a key, or else raise Invalid, which calls it `field`."""
    if not isinstance(value, str):
        raise Invalid(field, "must be a string")
    if not _NAME.fullmatch(value):
        raise Invalid(field, f"must be 1 to {MAX_NAME_CHARS} characters of A-Z a-z 0-9 . _ ~ @ : | = + -")
    return value
