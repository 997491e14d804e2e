"""Questions that need many runs: which settings (sweep), which size (capacity), what if."""
