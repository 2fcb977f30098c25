"""Text-to-image models in diffusers' layout, trained by flow matching on the one loop.

diffusers takes seconds to import. Only image jobs import these modules, and what checks a job does without it.
"""
