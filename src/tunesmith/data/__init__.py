"""From a file to canonical examples. No torch here: the server validates uploads with it."""
