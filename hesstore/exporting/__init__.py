"""From a store to the files that the field's scripts read."""

from hesstore.exporting.classic import KINDS, ExportSummary, export_csv

__all__ = ["KINDS", "ExportSummary", "export_csv"]
