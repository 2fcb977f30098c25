"""Latents of pictures and embeddings of captions that trainings left for later ones: each organisation's apart, and no
more than a bound.

Workers write below `folder(org)`: files named by the digest of what they follow from, in folders named by its first two
digits. A worker marks what it uses by the time of the file.
"""

from pathlib import Path

from tunesmith.assets.row_cache import trim


class EncodedCache:
    """A folder of files."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes

    def folder(self, org: str) -> Path:
        """Where an organisation's workers keep them."""
        return self._folder / org

    def tidy(self) -> None:
        """Remove those unused for longest while there is too much. What may be in use is spared."""
        trim(self._folder.glob("*/*/*"), self._max_bytes)
