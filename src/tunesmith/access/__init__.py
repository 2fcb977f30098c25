"""Who calls, what they may do, and the secrets that they keep."""
