"""Each `bench_<question>` prints one table, ratios first: `python -m benchmarks.bench_<question>`."""
