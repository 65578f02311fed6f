"""One module a figure: what `python -m bench` measures."""
