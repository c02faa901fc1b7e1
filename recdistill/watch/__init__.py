"""Teachers' scores made comparable, and teachers that change noticed.

It knows nothing of torch or of how a student learns.
"""
