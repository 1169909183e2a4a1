"""How does a profile look as a page? report.py puts these pieces together."""
