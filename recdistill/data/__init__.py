"""Public data sets, plain tables and the simulator, as records."""
