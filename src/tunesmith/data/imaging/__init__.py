"""From files that somebody sent to pictures that can be trained on. Pillow is imported inside functions only.

Files that a stranger wrote are decoded in a process of its own, `python -m tunesmith.data.imaging.process`.
"""
