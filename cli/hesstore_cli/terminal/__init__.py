"""The output on a terminal: progress bars, the live block of a sweep, tables, amounts and warnings.

It imports no command.
"""
