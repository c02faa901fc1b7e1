"""Released models in MLflow: publish a bundle, promote it through evidence, resolve an alias, fetch by content hash.

A version is one bundle, stored as plain files of a run (nothing is pickled), tagged with its content hash. The aliases
`candidate`, `champion` and `previous` say what is new, what serves and what served before. Who promoted what, when and
why is the ledger (ledger.py), which is also what lets only one of several promoters through.

It knows nothing of how evidence is made, and never loads a model. mlflow is imported when a registry is opened, since
that takes seconds.

Example:
    >>> Registry("ftp://models", "shop")
    Traceback (most recent call last):
    recdistill.errors.RegistryError: ftp://models: not a registry URI; write sqlite:///FILE or an http(s):// address
"""

from recdistill.registry.core import Registry
from recdistill.registry.ledger import CANDIDATE, CHAMPION, PREVIOUS
from recdistill.registry.structs import BundleRef, Evidence, LedgerEntry, Version

__all__ = ["CANDIDATE", "CHAMPION", "PREVIOUS", "BundleRef", "Evidence", "LedgerEntry", "Registry", "Version"]
