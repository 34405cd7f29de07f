"""The page: what `stealmesh dashboard` and `--dashboard` show in a browser, and `/metrics`.

Start at `server.py` (who may ask what), then `gathering.py` (what is asked of the mesh, and when). `frames.py` and
`picture.py` are pure: they make what the browser draws. `beside.py` is the process that serves a node's page.
"""
