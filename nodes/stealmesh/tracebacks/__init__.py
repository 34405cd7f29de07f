"""A task's traceback as a local call would show it.

In a worker `telling.py` makes words and a record (`stealmesh_protocol.trails`) of an exception's frames; in
the program `showing.py` makes frames of the record again, which lead to the program's own files. `ours.py`
says which frames are the mesh's and are folded away; `lines.py` shows text that no file here has.
Start with `showing.rebuilt`.
"""
