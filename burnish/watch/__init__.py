"""Monitoring of a run: metrics.jsonl, progress, alerts, trackers and report.html."""
