"""The program's side of a mesh: futures and iterators in front, events and effects behind.

Start reading at `session`: its `ProgramLink` stands between the program's threads and the driver's. The
kinds of jobs are in `submit`, `map`, `reduce` and `durable_job`; `submitted` holds all open ones;
`inputs` keeps calls back that wait for others, `results` opens what workers sent. `contracts` stands
below all of them: it says what the link asks of a job. Invariant: in the driver's thread no code of the user's runs.
"""
