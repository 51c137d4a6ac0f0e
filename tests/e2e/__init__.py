"""Deploys Peal for real, to MiniStack, and uses what was deployed. `make test-deploy` runs it, `make test` does not."""
