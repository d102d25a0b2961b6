"""Fail each point that a workload reaches, in turn; the journal is the only state. May import fleet and below."""
