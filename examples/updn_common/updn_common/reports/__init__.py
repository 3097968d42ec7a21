"""Numbers with their intervals, tables, figures and pages."""
