"""Results of a sweep: measures, curves, differences, the HTML report, comparison, import and figures."""
