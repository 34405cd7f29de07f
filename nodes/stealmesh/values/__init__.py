"""The octets of values that live on the mesh, on one host: packed, kept, handed on and mapped.

`parts.py` packs a value and opens it out of mapped memory (in programs and workers only), `shelf.py` keeps the
octets of a process in anonymous shared memory, `neighbours.py` hands descriptors from process to process. A
node uses the last two: it moves octets, and opens nothing.
"""
