"""Tools for a developer in a clone: set-up scripts, generators of committed files, and a Kafka broker.

It knows nothing of the tests. Tests and benchmarks use it to start their brokers and their child processes.
"""
