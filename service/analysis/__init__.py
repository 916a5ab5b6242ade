"""What the numbers of several experiments say together. Pure functions: no files, no database."""
