"""The demo's ERP: a Postgres database of record made from TPC-H. Nothing of the pipeline itself is here."""
