"""The verbs of the command line, one file for each group. A verb says what it is for, takes its options, does one step.

A module here imports nothing heavy until a verb runs. So `recdistill --help` is fast, and `serve` never loads torch.
Results go to stdout; progress and logs go to stderr.
"""
