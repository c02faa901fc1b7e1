"""Bundles and released models in MLflow: put a bundle, publish it as a version, promote, resolve, fetch, give back.

Bundles lie in the store (store.py) as plain files. Each file has its digest as its name, so nothing is sent or kept
twice. Nothing is pickled. A version is one bundle that was judged. It is tagged with its content hash, and it has a
run (runs.py) with what MLflow's pages show. The aliases `candidate`, `champion` and `previous` say what is new, what
serves, and what a rollback leads to. Who may set them, and who did, is not asked here.

It knows nothing of how evidence is made, what may be promoted, or of the ledger, and never loads a model. mlflow is
imported when a registry is opened, since that takes seconds.

Example:
    >>> Registry("ftp://models", "shop")
    Traceback (most recent call last):
    recdistill.errors.RegistryError: ftp://models: not a registry URI; write sqlite:///FILE or an http(s):// address
"""

from recdistill.registry.aliases import CANARY, CANDIDATE, CHAMPION, PREVIOUS
from recdistill.registry.cache import prune_cache, touch
from recdistill.registry.core import Registry
from recdistill.registry.structs import BundleRef, Evidence, FormerEntry, Held, Version

__all__ = [
    "CANARY",
    "CANDIDATE",
    "CHAMPION",
    "PREVIOUS",
    "BundleRef",
    "Evidence",
    "FormerEntry",
    "Held",
    "Registry",
    "Version",
    "prune_cache",
    "touch",
]
