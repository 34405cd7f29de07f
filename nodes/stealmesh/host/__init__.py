"""The real host of a core: its process, clock, sockets' loop, files and names on this machine.

Start reading at `driver.py` (the loop), then `node.py` (a node's process) and `local.py` (a program's own).
"""
