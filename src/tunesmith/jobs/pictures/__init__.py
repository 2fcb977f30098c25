"""From addresses of pictures to one prepared set: fetched, verified, transformed, captioned, written."""
