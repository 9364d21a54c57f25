"""Raw files to canonical tables: one module per source, all yielding the tables of `tables.py`."""
