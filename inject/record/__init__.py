"""The points that a workload reaches: which functions, attached how, and what was lost. May import trial and below."""
