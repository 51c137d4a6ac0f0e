"""The command line for whoever operates Peal: `pealctl`. Never ships; knows a stage by its REST API alone."""
