"""GaitEdge: gait recognition with GaitPart, from training to a camera box."""

__version__ = "0.1.0"
