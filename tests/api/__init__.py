"""
Tests of the function on a real control plane.

Every patch, status, permission and refusal is the API server's own.
"""
