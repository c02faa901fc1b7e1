"""The endpoint: a recommender's answers over HTTP.

`create_app` makes the application for a `Ranker`. `bind` opens a listening socket. `serve` runs the application until
it must stop. `RECOMMEND` reads a request as the endpoint does; the command line uses it without an endpoint.

It does not know registries or logs.

Example:
    >>> RECOMMEND.read(b'{"k": 3}', Limits()).requests[0].k
    3
"""

from recdistill.serve.http.app import App, create_app
from recdistill.serve.http.forms import RECOMMEND, RecommendRequest
from recdistill.serve.http.limits import Limits
from recdistill.serve.http.problem import Problem
from recdistill.serve.http.server import bind, serve
from recdistill.serve.http.writeback import Keep
from recdistill.serve.ranker import Ranker

__all__ = ["RECOMMEND", "App", "Keep", "Limits", "Problem", "Ranker", "RecommendRequest", "bind", "create_app", "serve"]
