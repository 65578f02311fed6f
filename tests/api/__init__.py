"""The function on a real control plane: every patch, status, permission and refusal here is the API server's own."""
