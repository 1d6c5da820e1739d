"""The table of calls, a module a service: for each verb its method, how its request is built and its response read.

Nothing here calls anything. A verb checks the types of its arguments and returns a `Call`, a `Listing` where the answer
comes in pages, or a `Stream`; the clients execute them, and so does an embedded node. Whether a call may be repeated is
in the table of `client/retries.py`.
"""
