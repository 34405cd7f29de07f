"""The program's code on its way to workers, and in them.

::

    program                                      worker
    bundle    which modules are its own ── blob → importer   they are imported from it
    packing   functions, classes, values ─ blob → opening    and are what the program has now
      reach     what a function reaches
      pickler   what travels as a name
      change_watch  has any of it changed since?
      own_classes   what has become of a class
      settings      what the program has set of the interpreter (setting_kinds: each of them)
      patches       what its file has put into modules of others
      open_ends     connections, which are handed over
                     source    the text of the program's own file, on both sides

Modules travel whole, as text, in one bundle. What is in `__main__` travels piece by piece, each
global that a function reaches with its present value, into one module that stands in for the
program's own in every worker.
"""
