"""Code that tests and benchmarks share: plain implementations to compare with, random students, a finished demo.

It imports recdistill, but never a test or a benchmark.
"""
