"""From a store to files that other programs read."""

from hesstore.exporting.exporter import FORMATS, STYLES, ExportSummary, export, kinds_of
from hesstore.exporting.weights import load_model, to_state_dict

__all__ = ["FORMATS", "STYLES", "ExportSummary", "export", "kinds_of", "load_model", "to_state_dict"]
