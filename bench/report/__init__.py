"""What is made of results: the kept file, tables, plots and pages."""
