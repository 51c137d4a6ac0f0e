"""What can keep a command from being done.

CommandError       said in a sentence or two, with the way out
+-- NotFound       what it names is not there
+-- Unavailable    no answer, or one that may be another when asked again
"""


class CommandError(Exception):
    """It was not done; the message is for the person who typed the command."""


class NotFound(CommandError):
    """What the command names is not there."""


class Unavailable(CommandError):
    """Nobody has answered, or somebody who may do so later."""
