"""How good a model is: tasks measure quality, device models predict cost. May read ``compressors``, never ``search``."""
