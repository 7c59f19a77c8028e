"""Runs side by side: their figures, differences, curves, scenes and worst queries, as Markdown and HTML."""
