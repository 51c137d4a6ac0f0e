"""What can go wrong on the way to AWS.

DeploymentError        said in a sentence or two, with the way out
+-- BadProject         config.json has no such stage, or does not say what it must
+-- NoAccess           no credentials, no Region, or AWS refuses them
+-- StackFailed        CloudFormation did not do it; names the first resource that failed
+-- Ambiguous          several APIs could be this stage's
+-- CommandFailed      a program that was run, Chalice or cfn-lint, did not succeed
+-- SmokeTestFailed    everything is deployed, but a client does not get through
+-- NotConfirmed       data would be lost, and nobody agreed to that
"""


class DeploymentError(Exception):
    """Nothing more was done; the message is for the person who typed the command."""


class BadProject(DeploymentError):
    """The project does not say what has to be known of it."""


class NoAccess(DeploymentError):
    """AWS cannot be asked, or does not let us."""


class StackFailed(DeploymentError):
    """The stack is not as resources.json wants it."""


class Ambiguous(DeploymentError):
    """One is ours, and which one cannot be told."""

    def __init__(self, kind: str, name: str, ids: list[str], command: str) -> None:
        super().__init__(kind, name, ids, command)
        self.kind, self.name, self.ids, self.command = kind, name, ids, command

    def __str__(self) -> str:
        return (
            f"There are {len(self.ids)} {self.kind}s {self.name!r} of this stage ({', '.join(self.ids)}), and clients "
            f"use one of them. Delete the others ({self.command} ID) and deploy again."
        )


class CommandFailed(DeploymentError):
    """A program ended with an error; it has said what is wrong."""

    def __init__(self, command: str, status: int) -> None:
        super().__init__(command, status)
        self.command, self.status = command, status

    def __str__(self) -> str:
        return f"`{self.command}` ended with status {self.status}; what it says stands above. Then run this again."


class SmokeTestFailed(DeploymentError):
    """Deployed, but not well."""


class NotConfirmed(DeploymentError):
    """Deleting was not agreed to."""
