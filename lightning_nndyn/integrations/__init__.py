"""Tools that people sweep with, one file each. Importing this package imports none of them."""
