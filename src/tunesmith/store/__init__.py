"""The only SQL. One file per noun; every function takes the connection of the caller's transaction.

Times are seconds since the epoch, UTC.
"""
