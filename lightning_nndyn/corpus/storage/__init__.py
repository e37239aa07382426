"""How records are kept: a folder while runs are trained, one parquet file afterwards."""
