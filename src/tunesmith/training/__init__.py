"""The training engine. Only here and in `worker.py` is torch imported."""
