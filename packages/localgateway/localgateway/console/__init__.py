"""The console: a page to talk to a project and to look into its gateway, and the calls behind it.

`page` serves its files, `admin` its calls, `feed` what happens. All of it is for this machine only, and costs nothing
while nobody looks.
"""
