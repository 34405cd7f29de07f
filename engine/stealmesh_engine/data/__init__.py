"""Values that live on the mesh: where their copies are, how a node gets one, and when all of them go.

Start with `values.py`, the face of this package. `directory.py` is the owner's account of each value: its
copies, who takes one from where, and its end. `copies.py` is a node's side: what it has, what it fetches
piece by piece, and what it serves to others. `stored.py` bounds what it keeps. The octets themselves are with the host (`KeepRoom`,
`WritePiece`, `ReadPiece`, `ForgetValue`), so a value of many GiB costs the engine a few intervals.

Invariant: a value that is whole at a node is in its owner's account, or the owner's word to drop it is on
its way. When the owner releases a value, no copy is left in the end.
"""
