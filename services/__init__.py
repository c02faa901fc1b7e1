"""The processes of recdistill, one folder each; see process.py."""
