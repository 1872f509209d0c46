"""Poses against truth: errors, uncertainty, figures, reports, replays."""
