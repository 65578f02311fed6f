"""Every figure there is. To add one: write its module, and name it here."""

from bench import recovery, recovery_page
from bench.result import Figure

FIGURES = {
    "recovery": Figure(measure=recovery.measure, pages=recovery_page.pages),
}
"""By name, which is what `--only` takes and what the names of its results begin with."""
