"""The catalogue of figures. To add a figure, write its module and add a line here."""

from bench.figures import flood, growth, ignored, latency, packet_loss, probing, recovery, start, storm, sweep
from bench.report import recovery_page
from bench.report.result import Figure

FIGURES = {
    "start": Figure(measure=start.measure),
    "ignored": Figure(measure=ignored.measure),
    "latency": Figure(measure=latency.measure),
    "probing": Figure(measure=probing.measure),
    "storm": Figure(measure=storm.measure, runs=3),
    "growth": Figure(measure=growth.measure),
    "flood": Figure(measure=flood.measure, runs=3),
    "sweep": Figure(measure=sweep.measure),
    "recovery": Figure(measure=recovery.measure, runs=5, pages=recovery_page.pages),
    "hole": Figure(measure=packet_loss.measure),
}
"""Figures by name. `--only` takes these names, and the names of results begin with them."""
