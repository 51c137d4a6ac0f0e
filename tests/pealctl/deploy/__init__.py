"""What deploys, as far as it can be seen without AWS; e2e/ has the rest."""
