"""The command line of Peal: operates a stage by its REST API, and takes it to AWS and away again. Never ships."""
