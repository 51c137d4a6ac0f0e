"""What can keep a command from being done, said in a sentence or two, with the way out.

CommandError
+-- NotFound           the stage has nothing of that name
+-- Unavailable        no answer, or one that may differ when asked again
+-- BadProject         config.json has no such stage, or lacks a setting that is needed
+-- NotInstalled       a package that this command needs is missing
+-- NoAccess           no credentials, no Region, or AWS refuses them
+-- StackFailed        CloudFormation failed; names the first resource that did
+-- Ambiguous          several APIs could be this stage's
+-- ProgramFailed      Chalice or cfn-lint ended with an error
+-- SmokeTestFailed    everything is deployed, but a client cannot use it
+-- NotConfirmed       the command would destroy data, and nobody confirmed that
"""


class CommandError(Exception):
    """The command was not done; the message is for the person who typed it."""


class NotFound(CommandError):
    """The stage has nothing of that name."""


class Unavailable(CommandError):
    """There was no answer, or one that may differ when asked again."""


class BadProject(CommandError):
    """The project's configuration lacks what the command needs."""


class NotInstalled(CommandError):
    """A package that the command needs is missing."""

    def __init__(self, package: str) -> None:
        super().__init__(package)
        self.package = package

    def __str__(self) -> str:
        return (
            f"This needs {self.package}, which is not installed: run it with make, or install pealctl with "
            "`pip install 'packages/pealctl[deploy]'`."
        )


class NoAccess(CommandError):
    """AWS cannot be asked, or refuses."""


class StackFailed(CommandError):
    """The stack is not as resources.json describes it."""


class Ambiguous(CommandError):
    """Several APIs could be this stage's."""

    def __init__(self, kind: str, name: str, ids: list[str], command: str) -> None:
        super().__init__(kind, name, ids, command)
        self.kind, self.name, self.ids, self.command = kind, name, ids, command

    def __str__(self) -> str:
        return (
            f"There are {len(self.ids)} {self.kind}s {self.name!r} of this stage ({', '.join(self.ids)}), and clients "
            f"use one of them. Delete the others ({self.command} ID) and deploy again."
        )


class ProgramFailed(CommandError):
    """A program that the command ran ended with an error."""

    def __init__(self, command: str, status: int) -> None:
        super().__init__(command, status)
        self.command, self.status = command, status

    def __str__(self) -> str:
        return f"`{self.command}` ended with status {self.status}; its own message is above. Then run this again."


class SmokeTestFailed(CommandError):
    """The stage is deployed, but a client cannot use it."""


class NotConfirmed(CommandError):
    """The command would destroy data, and nobody confirmed that."""
