"""What Knative's event sources send, byte by byte and with their promises."""
