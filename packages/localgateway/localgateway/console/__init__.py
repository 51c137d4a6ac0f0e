"""The console: a page to talk to a project and to look into its gateway, and what that page is told.

`page` serves its files, `feed` tells what happens, `tables` reads rows. All of it is for this machine only, as `admin`
is, and costs nothing while nobody looks.
"""
