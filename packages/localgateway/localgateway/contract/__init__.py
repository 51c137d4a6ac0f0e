"""What AWS promises and what a project is, as data: events, results, functions, invocations.

Pure: nothing here opens a socket, starts a process or keeps state.
"""
