"""The demo: a cluster of real processes on this machine does real work, and is held to what it should hold.

`story.py` tells it step by step, `checks.py` compares what the nodes hold with what was written, `agreement.py` says
when they agree, `nodes.py` runs the processes, and `board.py` is all that a view has to know. Nothing here prints.
"""
