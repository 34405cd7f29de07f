"""Real programs in a few lines, which the demo and the benchmarks run. Both have published answers."""
