"""Twin worlds: two databases that differ only in what a restricted identity must not see, asked the same things.

Whatever comes back through Sluice has to be the same from both. ``python -m sluice_dev.worlds`` runs it at length;
``make fuzz`` calls that.
"""
