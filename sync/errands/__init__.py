"""The errands of a check, by the work that they do [S11, S12, S13, S9]."""
