"""Where records go; the seat is `record/base.py`."""
