"""The command line for whoever operates Peal: `python -m peal`. Never ships; knows a stage by its REST API alone."""
