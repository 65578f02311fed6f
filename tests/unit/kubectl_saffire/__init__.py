"""The plugin's modules without a cluster: a test file for each, test_MODULE.py."""
