"""What tests and benchmarks share: plain implementations as second opinions, students of chance, a finished demo.

It imports recdistill, never a test or a benchmark.
"""
