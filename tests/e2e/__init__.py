"""Deploy Peal to MiniStack and use what was deployed. `make test-deploy` runs these tests, `make test` does not."""
