"""Sources to Arrow or Parquet: capture and observe. Knows no sink."""
