"""From exported answers to numbers with intervals, plots and a report."""
