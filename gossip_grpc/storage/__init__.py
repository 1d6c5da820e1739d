"""A node's state on disk: SQLite in a directory of its own, written behind the node's back by one thread.

* schema.py: the tables, and what a record is in them
* files.py: the directory and the file: made, checked, refused, opened
* writer.py: the thread that follows a running node, and what is known to be on disk
* copies.py: backups, restoring them, and looking into a directory

It knows the core's data, and nothing of gRPC nor of the engine.
"""
