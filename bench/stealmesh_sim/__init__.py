"""The virtual host: any number of cores on one heap, one clock and one seed.

Does in virtual time what ``driver``, ``transport`` and ``workers`` do for real: ``world`` has the
clock and the processes, ``links`` behaves as ZeroMQ does, ``workers`` pretend to run chunks,
``work`` says what the jobs consist of, ``programs`` plays the programs that submit them, ``faults``
breaks things, ``checkers`` watch, and ``random_worlds`` draws a whole world from a number.

Nothing here depends on hash order, on identities of objects or on a real clock: the same seed
gives the same trace, event by event.
"""
