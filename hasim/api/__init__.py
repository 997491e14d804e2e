"""What `import hasim` offers: the command line's work as values that draw themselves and have
frames. Nothing is decided here; the names are collected in hasim/__init__.py.
"""
