"""What `tests.benchmarks.supervision` starts and measures: Muster, others, and tiny children."""
