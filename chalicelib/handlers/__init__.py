"""The doors: a raw event or request in, a status, frames or an answer out.

Always true: whatever comes in, a door answers; a client's mistake gets an error that says what is wrong; our own
failure is logged and says nothing.
"""
