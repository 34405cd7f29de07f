"""Programs with known answers: what a mesh is measured with, and what its results are checked by.

Each module is one workload and knows nothing of meshes: plain functions that pickle by name.
"""
