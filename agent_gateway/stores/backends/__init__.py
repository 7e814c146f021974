"""Where state is kept; the seat is `stores/base.py`."""
