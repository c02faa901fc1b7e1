"""One folder for each process: settings from the environment, signals and health around one loop; no logic."""
