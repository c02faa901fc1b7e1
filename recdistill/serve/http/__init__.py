"""The endpoint: a recommender's answers over HTTP.

`create_app` makes the application around a `Ranker`, `bind` takes an address, `serve` runs it there until it is told to
stop. `RECOMMEND` reads a request as the endpoint does, for who puts one to a bundle without an endpoint.

It does not know registries or logs.

Example:
    >>> RECOMMEND.read(b'{"k": 3}', Limits()).requests[0].k
    3
"""

from recdistill.serve.http.app import App, create_app
from recdistill.serve.http.forms import RECOMMEND, Limits, RecommendRequest
from recdistill.serve.http.problem import Problem
from recdistill.serve.http.server import bind, serve
from recdistill.serve.http.writeback import Keep
from recdistill.serve.ranker import Ranker

__all__ = ["RECOMMEND", "App", "Keep", "Limits", "Problem", "Ranker", "RecommendRequest", "bind", "create_app", "serve"]
