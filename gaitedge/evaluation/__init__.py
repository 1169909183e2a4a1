"""How good a model is, by the protocols of the paper (Sec. 4.1)."""
