"""What is drawn on a terminal: bars, the live block of a sweep, amounts and warnings."""
