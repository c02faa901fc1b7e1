"""The endpoint over HTTP: forms, the application, its metrics, its page and its server."""
