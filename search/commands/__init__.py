"""One module per command: ``register`` adds its arguments, ``run`` does it. Heavy imports wait for ``run``."""
