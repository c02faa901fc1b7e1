"""What a developer runs in a clone: set-up scripts, generators of committed files, and a Kafka broker.

It knows nothing of the tests. Tests and benchmarks start their brokers and their child processes with what lies here.
"""
