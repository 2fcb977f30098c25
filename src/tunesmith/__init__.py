"""Tunesmith: a self-hosted fine-tuning service that speaks the APIs people already use."""

__version__ = "0.1.0"
