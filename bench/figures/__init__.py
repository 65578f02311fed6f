"""The figures that `python -m bench` measures, one module each."""
