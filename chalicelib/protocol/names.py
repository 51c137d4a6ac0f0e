"""Names that become part of a table key.

Invariant: no name contains `#`, which separates the parts of a key, so no name can reach the rows of another.
"""

import re

from chalicelib.errors import Invalid

MAX_NAME_CHARS = 128
# Written so that JSON Schema and other dialects understand it too.
NAME = rf"[A-Za-z0-9._~@:|=+-]{{1,{MAX_NAME_CHARS}}}"
_NAME = re.compile(NAME)


def is_name(text: str) -> bool:
    """Return whether the text may be part of a key."""
    return _NAME.fullmatch(text) is not None


def check_name(value: object, field: str) -> str:
    """Return `value` if it is a name: a user, device or connection id. Raises Invalid, which calls it `field`."""
    if not isinstance(value, str):
        raise Invalid(field, "must be a string")
    if not is_name(value):
        raise Invalid(field, f"must be 1 to {MAX_NAME_CHARS} characters of A-Z a-z 0-9 . _ ~ @ : | = + -")
    return value
