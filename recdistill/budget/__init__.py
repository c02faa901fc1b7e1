"""Which candidates the teacher is asked about when it is not asked about all of them.

It knows nothing of topics or of teachers.
"""
