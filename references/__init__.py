"""Second opinions that tests and benchmarks share: plain implementations, students made by chance, a finished demo."""
