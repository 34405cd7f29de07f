"""The virtual host: any number of cores on one heap, one clock and one seed.

Does in virtual time what ``driver``, ``transport`` and ``workers`` do for real. From the bottom:

kernel          the clock, and the heap of what is going to happen
trace           what happened, line by line, and its hash
work            what jobs consist of: costs, results, and what must come out
network         connections that behave, and misbehave, as ZeroMQ's do
platters, disks files, and what is left of them after a crash
workers         pretend to run chunks
process         a core with its workers, inbox and disk
checkers        watch everything, and raise a Breach
world           all of these together
programs        submit jobs and collect results; durable_programs: durable ones
nested          tasks with children, and clients in workers
faults          break things, and mend them
random_worlds   draw a whole world from a number; durable_worlds: with durable jobs

Nothing here depends on hash order, on identities of objects or on a real clock: the same seed
gives the same trace, event by event. Start reading at ``world``.
"""

import stealmesh_protocol  # noqa: F401  the compiled core, if there is one, is chosen there
