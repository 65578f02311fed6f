"""What is left behind for people: status, Events, log fields; written by `writer` alone."""
