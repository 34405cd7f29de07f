"""What `stealmesh doctor` looks at: this machine (`here.py`), the key (`keys.py`), the nodes (`mesh.py`).

Each looks and returns findings (`diagnosis.py`), which say what to do. Nothing is changed.
"""
