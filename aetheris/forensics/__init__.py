"""DuckDB over a lake or an evidence zip: queries, checks, receipts. Never the database."""
