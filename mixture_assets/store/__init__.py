"""Run folders and records are the truth; DuckDB is an index that can be rebuilt from them.

Put code here when it reads or writes the store's files, or asks the index. Keep out what a
number means: tables are filled as files say, and judged elsewhere.
"""
