"""Device models from published measurements of whole networks."""
