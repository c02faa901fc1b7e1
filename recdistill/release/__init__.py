"""From a bundle to a judged and registered version: what the promoter, the command line and the demo all do.

It knows nothing of loops, of how a bundle was made, or of how a champion is served.

Example:
    >>> sorted(__all__)
    ['held_out', 'judge', 'learnt_from', 'publish']
"""

from recdistill.release.judging import held_out, judge, learnt_from, publish

__all__ = ["held_out", "judge", "learnt_from", "publish"]
