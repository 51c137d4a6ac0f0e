"""Peal: everything that ships to Lambda beside app.py.

Modules import strictly downward, in the order that docs/ARCHITECTURE.md draws.
"""
