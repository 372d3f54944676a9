"""The folder of a run: rows, structures, report and figures."""
