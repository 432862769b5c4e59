"""``compareto serve``: exported artifacts behind HTTP, on Ray Serve.

A gateway (``gateway.py``, one process, no runtime in it) checks, limits, routes and batches requests; replicas (``replica.py``) run the artifacts in
their own runtimes. ``deployment.py`` is the only file that knows Ray Serve: all else is tested without it.
"""
