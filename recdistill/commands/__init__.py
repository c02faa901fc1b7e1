"""The verbs of the command line, one file a group. Each verb says what it is for, takes its options and does one step.

A module here imports nothing heavy until a verb runs, so that `recdistill --help` is instant and `serve` never loads
torch. Results go to stdout; progress and logs go to stderr.
"""
