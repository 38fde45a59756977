"""Write a store's results as files for other programs. May import ``dataset``, ``store`` and below."""

from hesstore.exporting.exporter import FORMATS, STYLES, ExportSummary, export, kinds_of

__all__ = ["FORMATS", "STYLES", "ExportSummary", "export", "kinds_of"]
