"""agent-gateway: an API gateway for AI agents. Start reading at `pipeline.py`."""

__version__ = "0.1.0"
