"""The program's side of a mesh: futures and iterators in front, events and effects behind.

`link` is the object between the program's threads and the driver's; `submits`, `maps` and
`folds` are the kinds of jobs; `outcomes` opens what workers sent.
"""
