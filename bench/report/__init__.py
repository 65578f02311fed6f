"""What becomes of results: the kept file, tables, plots and pages."""
